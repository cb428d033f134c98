//! The cloud's refusals in EC2's words.
//!
//! Codes and statuses: AWS, *Error codes for the Amazon EC2 API*. Running out of room is EC2's own 500, which its SDKs
//! try again by themselves; everything else that a request can be refused for is a 400.

use cloud::refusal::Kind;
use cloud::{Reason, Refusal};
use ec2::{Error, Resource};

/// A refusal as EC2 would make it.
pub(super) fn refused(refusal: Refusal) -> Error {
    let (status, code) = code(refusal.reason);
    Error::new(status, code, refusal.message)
}

/// THE table.
fn code(reason: Reason) -> (u16, String) {
    let (status, code) = match reason {
        Reason::NotFound(kind) => return (400, not_found(kind)),
        Reason::Duplicate(Kind::Group) => (400, "InvalidGroup.Duplicate"),
        Reason::Duplicate(Kind::Image) => (400, "InvalidAMIName.Duplicate"),
        Reason::Duplicate(Kind::KeyPair) => (400, "InvalidKeyPair.Duplicate"),
        Reason::Duplicate(_) => (400, "InvalidParameterValue"),
        Reason::DependencyViolation => (400, "DependencyViolation"),
        Reason::IncorrectInstanceState => (400, "IncorrectInstanceState"),
        Reason::IncorrectState => (400, "IncorrectState"),
        Reason::IncorrectModificationState => (400, "IncorrectModificationState"),
        Reason::VolumeInUse => (400, "VolumeInUse"),
        Reason::ZoneMismatch => (400, "InvalidVolume.ZoneMismatch"),
        Reason::NotAttached => (400, "InvalidAttachment.NotFound"),
        Reason::InterfaceInUse => (400, "InvalidNetworkInterface.InUse"),
        Reason::ImageUnavailable => (400, "InvalidAMIID.Unavailable"),
        Reason::OperationNotPermitted => (400, "OperationNotPermitted"),
        Reason::RuleNotFound => (400, "InvalidPermission.NotFound"),
        Reason::DuplicateRule => (400, "InvalidPermission.Duplicate"),
        Reason::CannotDelete => (400, "CannotDelete"),
        Reason::InsufficientCapacity => (500, "InsufficientInstanceCapacity"),
        Reason::InsufficientAddresses => (400, "InsufficientFreeAddressesInSubnet"),
        Reason::AddressInUse => (400, "InvalidIPAddress.InUse"),
        Reason::InsufficientPublicAddresses => (500, "InsufficientAddressCapacity"),
        Reason::IdempotentParameterMismatch => (400, "IdempotentParameterMismatch"),
        Reason::LimitExceeded(Kind::Rule) => (400, "RulesPerSecurityGroupLimitExceeded"),
        Reason::LimitExceeded(Kind::Group) => (400, "SecurityGroupsPerInstanceLimitExceeded"),
        Reason::LimitExceeded(Kind::Tag) => (400, "TagLimitExceeded"),
        Reason::LimitExceeded(Kind::Attachment) => (400, "AttachmentLimitExceeded"),
        Reason::LimitExceeded(Kind::Volume) => (400, "VolumeLimitExceeded"),
        Reason::LimitExceeded(_) => (400, "ResourceLimitExceeded"),
        Reason::InvalidValue => (400, "InvalidParameterValue"),
        Reason::InvalidAttributeValue => (400, "InvalidInstanceAttributeValue"),
        Reason::SeveralInterfaces => (400, "InvalidInstanceID"),
        Reason::InvalidCombination => (400, "InvalidParameterCombination"),
        Reason::InvalidBlockDeviceMapping => (400, "InvalidBlockDeviceMapping"),
        Reason::Unsupported => (400, "UnsupportedOperation"),
        Reason::UnsupportedHibernation => (400, "UnsupportedHibernationConfiguration"),
        Reason::NoDefaultVpc => (400, "VPCIdNotSpecified"),
    };
    (status, code.to_owned())
}

/// `InvalidInstanceID.NotFound` and its like; the `ec2` crate knows them.
fn not_found(kind: Kind) -> String {
    let resource = match kind {
        Kind::Instance => Resource::Instance,
        Kind::Volume => Resource::Volume,
        Kind::Image => Resource::Image,
        Kind::KeyPair => Resource::KeyPair,
        Kind::Group => Resource::SecurityGroup,
        Kind::Rule => Resource::SecurityGroupRule,
        Kind::Vpc => Resource::Vpc,
        Kind::Subnet => Resource::Subnet,
        Kind::Interface => Resource::NetworkInterface,
        Kind::RouteTable => Resource::RouteTable,
        Kind::InternetGateway => Resource::InternetGateway,
        Kind::NetworkAcl => Resource::NetworkAcl,
        Kind::DhcpOptions => Resource::DhcpOptions,
        Kind::InterfaceAttachment => Resource::NetworkInterfaceAttachment,
        Kind::Zone => return "InvalidZone.NotFound".into(),
        Kind::InstanceType => return "InvalidInstanceType".into(),
        Kind::Attachment | Kind::Tag | Kind::Other => return "InvalidID".into(),
    };
    Error::not_found(resource, "").code().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_sentence_and_gets_ec2s_code() {
        for (reason, status, code) in [
            (Reason::NotFound(Kind::Instance), 400, "InvalidInstanceID.NotFound"),
            (Reason::NotFound(Kind::Image), 400, "InvalidAMIID.NotFound"),
            (Reason::NotFound(Kind::Group), 400, "InvalidGroup.NotFound"),
            (Reason::NotFound(Kind::KeyPair), 400, "InvalidKeyPair.NotFound"),
            (Reason::NotFound(Kind::Subnet), 400, "InvalidSubnetID.NotFound"),
            (Reason::Duplicate(Kind::KeyPair), 400, "InvalidKeyPair.Duplicate"),
            (Reason::InsufficientCapacity, 500, "InsufficientInstanceCapacity"),
            (Reason::InsufficientAddresses, 400, "InsufficientFreeAddressesInSubnet"),
            (Reason::InvalidValue, 400, "InvalidParameterValue"),
        ] {
            let error = refused(Refusal::new(reason, "Why"));
            assert_eq!((error.status(), error.code(), error.message()), (status, code, "Why"), "{reason:?}");
        }
    }
}
