//! The rows: everything the cloud knows, one struct for each kind of thing.
//!
//! A row is what the store keeps as one JSON document, so fields are added with a default and never
//! renamed. Rows refer to each other by id; [`Row::refers_to`] says to which, and the world
//! turns that around into "who refers to me". Commands write all rows but those whose name ends in
//! `Status`, which only [`settle`](crate::settle()) writes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use spec::control::EndReason;
use spec::ids::*;
use spec::machine::{DeviceId, Mac, Run};
use spec::network::{Peer, Target, Traffic};
use spec::storage::Architecture;

use crate::time::Timestamp;

/// A thing's tags: key to value.
pub type Tags = BTreeMap<String, String>;

/// An image that instances are launched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its name, unique in the account.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// The processor it is for.
    pub architecture: Architecture,
    /// Its disk's size in bytes.
    pub bytes: u64,
    /// The name of the root device: `/dev/xvda`.
    pub root_device: String,
    /// When it was registered.
    pub created: Timestamp,
    /// Its disk has been taken in whole; until then it is `pending`.
    pub available: bool,
    /// Deregistered: gone for the user, its disk stays while volumes are based on it.
    #[serde(default)]
    pub doomed: bool,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// An instance, as the user wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The call that launched it.
    pub reservation: ReservationId,
    /// Its number within that call, from 0.
    pub launch_index: u32,
    /// The image it was launched from.
    pub image: ImageId,
    /// Its type's name: `t3.micro`.
    pub instance_type: String,
    /// Where its primary interface is.
    pub subnet: SubnetId,
    /// The name of the key pair whose public key it offers to its guest.
    pub key_name: Option<String>,
    /// That key, as it was at launch, in OpenSSH's form.
    pub public_key: Option<String>,
    /// User-data, base64 (RFC 4648) of at most 16 KiB.
    pub user_data: Option<String>,
    /// What a guest's own power-off means.
    pub shutdown_behavior: ShutdownBehavior,
    /// Terminating it by the API is refused.
    pub termination_protection: bool,
    /// Stopping it by the API is refused.
    pub stop_protection: bool,
    /// It can be hibernated.
    #[serde(default)]
    pub hibernation: bool,
    /// How its metadata service behaves.
    pub metadata: MetadataOptions,
    /// The user id of its machine's process; no other living instance has it.
    pub user: u32,
    /// The client token of the call that launched it, with the mark of that call's parameters.
    pub client_token: Option<ClientToken>,
    /// When it was launched or last started.
    pub launched: Timestamp,
    /// What the user wants of it.
    pub goal: Goal,
    /// How often the user asked for a reboot.
    pub reboots: u64,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// What the user wants of an instance. Only a start raises the incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The last life that was asked for, from 1.
    pub incarnation: u32,
    /// Whether that life should go on.
    pub aim: Aim,
    /// Since when.
    pub since: Timestamp,
}

/// Run, down or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// It should run.
    Run,
    /// It should be stopped; without asking the guest where forced.
    Down {
        /// Do not ask the guest.
        force: bool,
        /// Have its machine saved instead, to go on from there at the next start.
        #[serde(default)]
        hibernate: bool,
    },
    /// It should be terminated.
    Gone,
}

/// What a guest's own power-off means for its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownBehavior {
    /// It is stopped.
    Stop,
    /// It is terminated.
    Terminate,
}

/// How an instance's metadata service behaves (AWS, *Instance metadata options*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// It answers at all.
    pub enabled: bool,
    /// It answers only with a session token (version 2).
    pub tokens_required: bool,
    /// The largest number of network hops of an answer with a token, 1 to 64.
    pub hop_limit: u8,
    /// It shows the instance's tags.
    pub tags: bool,
}

/// A client token, and what was asked with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientToken {
    /// The token.
    pub token: String,
    /// A mark of the call's parameters.
    pub parameters: u64,
}

/// How an instance is, as the reconciler saw it. Absent until it has looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Which instance.
    pub id: InstanceId,
    /// The run that is or was last on the host, or is to be tried next.
    pub run: Run,
    /// What there is of it.
    pub seen: Seen,
    /// Since when it is so.
    pub since: Timestamp,
    /// Not before this moment is the run to be tried.
    pub not_before: Timestamp,
    /// How often in a row it failed soon after its start.
    pub quick_failures: u32,
    /// The incarnation that ended by itself (its guest powered off), or that was given up.
    pub over: Option<Over>,
    /// The reboots that were carried out.
    pub reboots: u64,
    /// How often this run's machine was built anew.
    pub resets: u64,
    /// Its guest's kernel panicked.
    pub panicked: bool,
    /// The devices that its machine has, by its own word; none while it runs not, or does not say.
    #[serde(default)]
    pub devices: Option<BTreeSet<DeviceId>>,
    /// The volumes whose files did not do what this machine's guest asked of them: the first such thing, in a sentence.
    #[serde(default)]
    pub disk_failures: BTreeMap<VolumeId, String>,
    /// Its machine is saved: it goes on from there at the next start.
    #[serde(default)]
    pub saved: bool,
    /// What the last failed step or ended attempt said.
    pub trouble: Option<String>,
    /// When nothing of a terminated instance was left.
    pub gone: Option<Timestamp>,
}

/// What there is of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Nothing that runs.
    Nothing,
    /// Its process runs.
    Running,
}

/// An incarnation that is over though the user did not end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// Which incarnation.
    pub incarnation: u32,
    /// Why.
    pub why: WhyOver,
    /// When it was noticed.
    pub at: Timestamp,
}

/// Why an incarnation is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyOver {
    /// Its guest powered itself off.
    PoweredOff,
    /// It could not be kept up.
    GivenUp {
        /// How its machine ended the last time, where it got so far.
        reason: Option<EndReason>,
        /// What was said.
        message: String,
    },
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Its size in GiB.
    pub gib: u32,
    /// Its availability zone.
    pub zone: String,
    /// Its type.
    pub kind: VolumeKind,
    /// I/O operations a second; none for types that have no such setting.
    pub iops: Option<u32>,
    /// MiB a second; none for types that have no such setting.
    pub throughput: Option<u32>,
    /// The image it begins as.
    pub base: Option<ImageId>,
    /// When it was made.
    pub created: Timestamp,
    /// Where it is attached.
    pub attachment: Option<VolumeAttachment>,
    /// The last change of its size or kind.
    #[serde(default)]
    pub modification: Option<Modification>,
    /// The client token of the call that made it, with the mark of that call's parameters.
    #[serde(default)]
    pub client_token: Option<ClientToken>,
    /// It is to be deleted, and its data with it.
    #[serde(default)]
    pub doomed: bool,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// A volume's type (AWS, *Amazon EBS volume types*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "AWS's names, explained there")]
pub enum VolumeKind {
    Standard,
    Gp2,
    Gp3,
    Io1,
    Io2,
    St1,
    Sc1,
}

/// A volume at an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAttachment {
    /// Which instance.
    pub instance: InstanceId,
    /// Under which name the user knows it: `/dev/sdf`.
    pub device: String,
    /// It goes when the instance is terminated.
    pub delete_on_termination: bool,
    /// Since when.
    pub since: Timestamp,
    /// It is to be taken away from the instance; when it is, the attachment ends.
    #[serde(default)]
    pub detach: Option<Detach>,
}

/// A change of a volume, whose row has the new values already: when it was asked for, and what was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modification {
    /// When it was asked for.
    pub started: Timestamp,
    /// The volume's size before, in GiB.
    pub gib: u32,
    /// Its type before.
    pub kind: VolumeKind,
    /// Its I/O operations a second before.
    pub iops: Option<u32>,
    /// Its MiB a second before.
    pub throughput: Option<u32>,
}

/// How something is to be taken away from an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detach {
    /// By asking its guest, for as long as it takes.
    Asked,
    /// Without asking it.
    Forced,
}

/// How a volume is. Absent until the volume exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Which volume.
    pub id: VolumeId,
    /// When it was seen that a modification was through; one that began later is not.
    #[serde(default)]
    pub modified: Option<Timestamp>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its id.
    pub id: InterfaceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// What it says of itself.
    pub description: String,
    /// Its link address.
    pub mac: Mac,
    /// Its private address.
    pub address: Ipv4Addr,
    /// A public address that it has while its instance is up. It stays noted after a stop, so that the next start
    /// gives another.
    pub auto_public: Option<Ipv4Addr>,
    /// Its security groups.
    pub groups: BTreeSet<GroupId>,
    /// It may only send and receive under its own addresses.
    pub source_dest_check: bool,
    /// Where it is attached.
    pub attachment: Option<InterfaceAttachment>,
    /// When it was made.
    pub created: Timestamp,
    /// The client token of the call that made it, with the mark of that call's parameters.
    #[serde(default)]
    pub client_token: Option<ClientToken>,
    /// It is to be deleted.
    #[serde(default)]
    pub doomed: bool,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// A network interface at an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAttachment {
    /// The attachment's own id.
    pub id: InterfaceAttachmentId,
    /// Which instance.
    pub instance: InstanceId,
    /// Its number there; 0 is the primary one.
    pub device_index: u32,
    /// It goes when the instance is terminated.
    pub delete_on_termination: bool,
    /// Since when.
    pub since: Timestamp,
    /// It is to be taken away from the instance; when it is, the attachment ends.
    #[serde(default)]
    pub detach: Option<Detach>,
}

/// A key pair, of which only the public half is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// Its id.
    pub id: KeyPairId,
    /// Its name, unique in the account.
    pub name: String,
    /// Its type.
    pub kind: KeyKind,
    /// Its fingerprint as EC2 makes it.
    pub fingerprint: String,
    /// The public key in OpenSSH's form.
    pub public_key: String,
    /// When it was made or imported.
    pub created: Timestamp,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// The type of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// RSA, 2048 bits where EC2 makes it.
    Rsa,
    /// ED25519.
    Ed25519,
}

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// The id of that block's association with it.
    pub cidr_association: VpcCidrAssociationId,
    /// It is where things go that name no subnet.
    pub is_default: bool,
    /// Its number among this host's VPCs; its uplink's addresses follow from it.
    pub number: u16,
    /// The options its guests get by DHCP.
    pub dhcp_options: DhcpOptionsId,
    /// Guests can ask the VPC's resolver (`enableDnsSupport`).
    pub dns_support: bool,
    /// Guests with public addresses get public names (`enableDnsHostnames`).
    pub dns_hostnames: bool,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// Its availability zone's name.
    pub zone: String,
    /// It is its zone's default subnet.
    pub is_default: bool,
    /// Instances launched in it get a public address unless they say otherwise.
    pub map_public_ip_on_launch: bool,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// Its VPC.
    pub vpc: VpcId,
    /// It holds for every subnet that is associated with no other; the id is of that association.
    pub main: Option<RouteTableAssociationId>,
    /// Its routes besides the VPC's own addresses.
    pub routes: Vec<TableRoute>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// One route of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRoute {
    /// Packets to these addresses …
    pub destination: Ipv4Net,
    /// … go to this gateway.
    pub gateway: InternetGatewayId,
}

/// An internet gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternetGateway {
    /// Its id.
    pub id: InternetGatewayId,
    /// The VPC it is attached to.
    pub vpc: Option<VpcId>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// A network ACL. Until its entries can be changed, it is EC2's default one: everything allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAcl {
    /// Its id.
    pub id: NetworkAclId,
    /// Its VPC.
    pub vpc: VpcId,
    /// It holds for every subnet that is associated with no other.
    pub is_default: bool,
    /// The subnets it holds for, each with the id of that association.
    pub associations: BTreeMap<SubnetId, NetworkAclAssociationId>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// What a VPC's guests are told by DHCP. Until options can be made, it is EC2's default set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOptions {
    /// Its id.
    pub id: DhcpOptionsId,
    /// The domain name.
    pub domain_name: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: GroupId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its name, unique in the VPC; `default` is the group of instances that name none.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// Its rules.
    pub rules: BTreeMap<RuleId, GroupRule>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRule {
    /// In or out.
    pub direction: Direction,
    /// Which packets.
    pub traffic: Traffic,
    /// From or to whom.
    pub peer: Peer,
    /// What it says of itself.
    pub description: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}

/// The direction of a rule, seen from the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the instance.
    Ingress,
    /// From the instance.
    Egress,
}

impl Image {
    /// The size of the smallest volume that holds its disk, in GiB.
    pub fn least_gib(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(1 << 30)).unwrap_or(u32::MAX).max(1)
    }
}

macro_rules! rows {
    ($($variant:ident($id:ident) $field:ident $(tags $tags:ident)?;)*) => {
        /// The name of a row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Key {
            $(#[doc = concat!("Of a row in `", stringify!($field), "`.")] $variant($id),)*
        }

        /// Any row.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "table", content = "row", rename_all = "kebab-case")]
        pub enum Row {
            $(#[doc = concat!("A row in `", stringify!($field), "`.")] $variant($variant),)*
        }

        impl Row {
            /// The row's name.
            pub fn key(&self) -> Key {
                match self {
                    $(Self::$variant(row) => Key::$variant(row.id),)*
                }
            }

            /// The row's tags, where its kind has any.
            pub fn tags_mut(&mut self) -> Option<&mut Tags> {
                match self {
                    $($(Self::$variant(row) => Some(&mut row.$tags),)?)*
                    #[allow(unreachable_patterns, reason = "kinds without tags are those not listed above")]
                    _ => None,
                }
            }
        }

        impl Key {
            /// The key as text: the table's name and the id. Unique over all rows.
            pub fn text(&self) -> String {
                match self {
                    $(Self::$variant(id) => format!("{}/{id}", stringify!($field)),)*
                }
            }
        }

        $(impl From<$variant> for Row {
            fn from(row: $variant) -> Self {
                Self::$variant(row)
            }
        })*
    };
}

/// Calls a macro with the list of all tables: a row's type, its id's type, the table's name in the
/// world, and `tags tags` where users may tag it.
macro_rules! for_all_tables {
    ($with:ident) => {
        $with! {
            Image(ImageId) images tags tags;
            Instance(InstanceId) instances tags tags;
            InstanceStatus(InstanceId) instance_statuses;
            Volume(VolumeId) volumes tags tags;
            VolumeStatus(VolumeId) volume_statuses;
            Interface(InterfaceId) interfaces tags tags;
            KeyPair(KeyPairId) key_pairs tags tags;
            Vpc(VpcId) vpcs tags tags;
            Subnet(SubnetId) subnets tags tags;
            RouteTable(RouteTableId) route_tables tags tags;
            InternetGateway(InternetGatewayId) internet_gateways tags tags;
            NetworkAcl(NetworkAclId) network_acls tags tags;
            DhcpOptions(DhcpOptionsId) dhcp_options tags tags;
            SecurityGroup(GroupId) security_groups tags tags;
        }
    };
}
pub(crate) use for_all_tables;

for_all_tables!(rows);

impl Row {
    /// The client token of the call that made the row, where such calls have one.
    pub fn client_token(&self) -> Option<&ClientToken> {
        match self {
            Self::Instance(row) => row.client_token.as_ref(),
            Self::Volume(row) => row.client_token.as_ref(),
            Self::Interface(row) => row.client_token.as_ref(),
            _ => None,
        }
    }

    /// The rows that this one needs; each of them can ask who refers to it, and none may be deleted
    /// while another does.
    pub fn refers_to(&self) -> Vec<Key> {
        match self {
            Self::Instance(row) => vec![Key::Image(row.image), Key::Subnet(row.subnet)],
            Self::InstanceStatus(row) => vec![Key::Instance(row.id)],
            Self::VolumeStatus(row) => vec![Key::Volume(row.id)],
            Self::Volume(row) => {
                let instance = row.attachment.as_ref().map(|at| Key::Instance(at.instance));
                row.base.map(Key::Image).into_iter().chain(instance).collect()
            }
            Self::Interface(row) => {
                let instance = row.attachment.as_ref().map(|at| Key::Instance(at.instance));
                let groups = row.groups.iter().map(|group| Key::SecurityGroup(*group));
                [Key::Vpc(row.vpc), Key::Subnet(row.subnet)]
                    .into_iter()
                    .chain(groups)
                    .chain(instance)
                    .collect()
            }
            Self::Subnet(row) => vec![Key::Vpc(row.vpc)],
            Self::RouteTable(row) => {
                let gateways = row.routes.iter().map(|route| Key::InternetGateway(route.gateway));
                std::iter::once(Key::Vpc(row.vpc)).chain(gateways).collect()
            }
            Self::InternetGateway(row) => row.vpc.map(Key::Vpc).into_iter().collect(),
            Self::NetworkAcl(row) => vec![Key::Vpc(row.vpc)],
            Self::SecurityGroup(row) => {
                let peers = row.rules.values().filter_map(|rule| match rule.peer {
                    Peer::Group(group) if group != row.id => Some(Key::SecurityGroup(group)),
                    _ => None,
                });
                std::iter::once(Key::Vpc(row.vpc)).chain(peers).collect()
            }
            Self::Vpc(row) => vec![Key::DhcpOptions(row.dhcp_options)],
            Self::Image(_) | Self::KeyPair(_) | Self::DhcpOptions(_) => Vec::new(),
        }
    }
}

impl TableRoute {
    /// Where the route leads, given whether its gateway is attached to the table's VPC.
    pub fn target(&self, attached: bool) -> Target {
        if attached { Target::Uplink } else { Target::Blackhole }
    }
}
