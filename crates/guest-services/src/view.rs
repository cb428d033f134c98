//! What a guest may know: plain data that the daemon fills from its model, one view per instance.
//!
//! A view holds nothing that its guest may not read. Ids arrive as text, so that this crate knows no
//! other. Host names are not in it: they follow from address and region ([`names`](crate::names)).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An instance, as its own guest may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// `i-0123456789abcdef0`.
    pub instance_id: String,
    /// `ami-…`, the image it was launched from.
    pub image_id: String,
    /// Its place among the instances of one RunInstances call, from 0.
    pub launch_index: u32,
    /// `t3.micro`.
    pub instance_type: String,
    /// `r-…`.
    pub reservation_id: String,
    /// The twelve digits of the account that owns it.
    pub account_id: String,
    /// `us-east-1`.
    pub region: String,
    /// `us-east-1a`.
    pub zone: String,
    /// `use1-az1`.
    pub zone_id: String,
    /// `x86_64` or `arm64`, EC2's names.
    pub architecture: String,
    /// `aki-…`, where one was named.
    pub kernel_id: Option<String>,
    /// `ari-…`, where one was named.
    pub ramdisk_id: Option<String>,
    /// When this run of it began; what EC2 shows as `launchTime`.
    pub launch_time: Timestamp,
    /// The key pair it was launched with.
    pub key: Option<KeyView>,
    /// What RunInstances was given, decoded from base64. None is not the same as empty.
    #[serde(with = "user_data")]
    pub user_data: Option<Vec<u8>>,
    /// The root volume's device name, as in `/dev/xvda`.
    pub root_device: String,
    /// The device names of further volumes that were attached when it was started, as in `/dev/sdf`.
    pub volume_devices: Vec<String>,
    /// Its tags, if it may read them (EC2's `instance-metadata-tags`).
    pub tags: Option<BTreeMap<String, String>>,
    /// How its metadata may be asked for.
    pub metadata: MetadataOptions,
    /// The network interface with device number 0.
    pub primary: InterfaceView,
    /// Its other network interfaces.
    pub secondary: Vec<InterfaceView>,
    /// Proofs that its identity document is genuine; none where the operator has set up no signer.
    pub identity: Option<IdentityProofs>,
}

impl InstanceView {
    /// All network interfaces, the primary one first.
    pub fn interfaces(&self) -> impl Iterator<Item = &InterfaceView> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }
}

/// A key pair, as far as a guest needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// The key pair's name.
    pub name: String,
    /// One line as in `authorized_keys`, without a line end.
    pub openssh: String,
}

/// How an instance's metadata may be asked for (EC2's `MetadataOptions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// `http-endpoint`: whether metadata is answered at all.
    pub endpoint: bool,
    /// `http-tokens`: whether a session token must be shown.
    pub tokens: TokenUse,
    /// `http-put-response-hop-limit`, from 1 to 64: how many hops a token may travel.
    pub hop_limit: u8,
}

/// Whether requests must show a session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenUse {
    /// IMDSv1 and IMDSv2: a token that is shown must be good, but none need be shown.
    Optional,
    /// IMDSv2 only.
    Required,
}

/// A network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// `eni-…`.
    pub interface_id: String,
    /// Its link address in lower case, as in `02:00:5e:10:00:01`; the key to it in the metadata tree.
    pub mac: String,
    /// Its place in the instance; 0 is the primary one.
    pub device_number: u32,
    /// The account that owns it.
    pub owner_id: String,
    /// Its private address.
    pub address: Ipv4Addr,
    /// The public address that is mapped to it.
    pub public_address: Option<Ipv4Addr>,
    /// Its security groups.
    pub security_groups: Vec<GroupView>,
    /// `subnet-…`.
    pub subnet_id: String,
    /// The subnet's block.
    pub subnet_cidr: Ipv4Net,
    /// `vpc-…`.
    pub vpc_id: String,
    /// The VPC's blocks, the primary one first.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// What DHCP tells it.
    pub network: NetworkConfig,
}

/// A security group, as far as its members know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// `sg-…`.
    pub id: String,
    /// The group's name.
    pub name: String,
}

/// What DHCP tells an interface besides its address and its subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The VPC's router in the subnet; it is the DHCP server, too.
    pub router: Ipv4Addr,
    /// Resolvers, the preferred one first. EC2's DHCP options hold at most four.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Time servers. EC2's DHCP options hold at most four.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// The domain of unqualified names, normally [`private_domain`](crate::names::private_domain).
    pub domain_name: String,
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// How long a lease holds, in seconds.
    pub lease_seconds: u32,
}

/// Proofs of an identity document, each base64 text as the guest reads it. Their maker signs what
/// [`identity_document`](crate::metadata::identity_document) gives, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProofs {
    /// `dynamic/instance-identity/pkcs7`.
    pub pkcs7: String,
    /// `dynamic/instance-identity/rsa2048`.
    pub rsa2048: String,
    /// `dynamic/instance-identity/signature`.
    pub signature: String,
}

/// User data as base64 text: as a list of numbers it would be four times as long.
mod user_data {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| STANDARD.decode(text).map_err(D::Error::custom)).transpose()
    }
}
