//! Why a command is refused.
//!
//! A refusal is for the user: its sentence names the object and what is wrong with it. Its reason is what the
//! daemon translates into EC2's error code, so there is one for each code that users' programs tell apart.

use std::fmt;

/// A command was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal it is.
    pub reason: Reason,
    /// One sentence for the user, with the objects' ids.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An object named in the command does not exist.
    NotFound(Kind),
    /// An object with that name exists already.
    Duplicate(Kind),
    /// Something else still needs the object.
    DependencyViolation,
    /// An instance is not in a state that allows the command.
    IncorrectInstanceState,
    /// A volume, or what it should be attached to, is not in a state that allows the command.
    IncorrectState,
    /// A volume is being modified already.
    IncorrectModificationState,
    /// A volume is attached.
    VolumeInUse,
    /// A volume is in another availability zone than the instance.
    ZoneMismatch,
    /// A volume is not attached as the command says.
    NotAttached,
    /// A network interface is attached.
    InterfaceInUse,
    /// An image cannot be used.
    ImageUnavailable,
    /// What is named is protected from the command.
    OperationNotPermitted,
    /// A security group has no such rule.
    RuleNotFound,
    /// A security group has that rule already.
    DuplicateRule,
    /// The object cannot be deleted: it is the VPC's default one.
    CannotDelete,
    /// The host has no room for what was asked.
    InsufficientCapacity,
    /// The subnet has not enough free addresses.
    InsufficientAddresses,
    /// The address is in use already.
    AddressInUse,
    /// The public pool has not enough free addresses.
    InsufficientPublicAddresses,
    /// The client token was used before with other parameters.
    IdempotentParameterMismatch,
    /// More of something than is allowed.
    LimitExceeded(Kind),
    /// A parameter's value is wrong.
    InvalidValue,
    /// An attribute of an instance cannot have that value.
    InvalidAttributeValue,
    /// It is not clear which of an instance's interfaces is meant.
    SeveralInterfaces,
    /// Parameters that do not go together.
    InvalidCombination,
    /// A block device mapping is wrong.
    InvalidBlockDeviceMapping,
    /// EC2 has it, this cloud does not yet.
    Unsupported,
    /// An instance cannot be hibernated.
    UnsupportedHibernation,
    /// There is no default VPC to put it into.
    NoDefaultVpc,
}

/// Kinds of objects, where refusals tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An instance.
    Instance,
    /// An instance type.
    InstanceType,
    /// A volume.
    Volume,
    /// An image.
    Image,
    /// A key pair.
    KeyPair,
    /// A security group.
    Group,
    /// A rule of a security group.
    Rule,
    /// A VPC.
    Vpc,
    /// A subnet.
    Subnet,
    /// A network interface.
    Interface,
    /// A network interface's attachment to an instance.
    InterfaceAttachment,
    /// A volume or network interface at an instance.
    Attachment,
    /// An availability zone.
    Zone,
    /// A route table.
    RouteTable,
    /// An internet gateway.
    InternetGateway,
    /// A network ACL.
    NetworkAcl,
    /// A set of DHCP options.
    DhcpOptions,
    /// A tag.
    Tag,
    /// Anything else that has an id.
    Other,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// "The instance ID 'i-…' does not exist", as EC2 words it.
    pub fn not_found(kind: Kind, what: &str, id: impl fmt::Display) -> Self {
        Self::new(Reason::NotFound(kind), format!("The {what} '{id}' does not exist"))
    }
}
