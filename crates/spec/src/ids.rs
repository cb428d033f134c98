//! Typed ids as users see them: a prefix and 17 hexadecimal digits, `i-0a1b2c3d4e5f60718`.
//!
//! Ids made here begin with a zero and carry 64 random bits, as EC2's own do today. Ids read
//! from a user may use all 68 bits, or be of the old form with eight digits; both are well
//! formed and keep their spelling, so that "does not exist" can quote them.
//! Format: AWS, "Amazon EC2 User Guide", *Amazon EC2 resource IDs*.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits of an id in the long form.
const LONG: usize = 17;
/// Digits of an id in the form used before 2016.
const SHORT: usize = 8;
/// Set in ids of the short form; the digits themselves use the 68 bits below.
const SHORT_MARK: u128 = 1 << (4 * LONG);

/// Why a text is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What an id of this kind begins with, without the hyphen.
    pub prefix: &'static str,
    /// What was given instead.
    pub text: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not an id of the form {}-0123456789abcdef0", self.text, self.prefix)
    }
}

impl std::error::Error for Malformed {}

fn parse(prefix: &'static str, text: &str) -> Result<u128, Malformed> {
    let malformed = || Malformed { prefix, text: text.chars().take(64).collect() };
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).ok_or_else(malformed)?;
    if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(malformed());
    }
    let mark = match digits.len() {
        LONG => 0,
        SHORT => SHORT_MARK,
        _ => return Err(malformed()),
    };
    u128::from_str_radix(digits, 16).map(|value| value | mark).map_err(|_| malformed())
}

fn show(prefix: &str, value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value & SHORT_MARK {
        0 => write!(f, "{prefix}-{value:0LONG$x}"),
        _ => write!(f, "{prefix}-{:0SHORT$x}", value & !SHORT_MARK),
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(u128);

        impl $name {
            /// What an id of this kind begins with, without the hyphen.
            pub const PREFIX: &'static str = $prefix;

            /// The id that these random bits make.
            pub const fn from_random(bits: u64) -> Self {
                Self(bits as u128)
            }

            /// The digits as twelve base-62 characters, for names of few characters (an interface has
            /// 15): different ids give different texts.
            pub fn base62(self) -> String {
                base62(self.0)
            }

            /// The digits without prefix and hyphen: `0a1b2c3d4e5f60718`.
            pub fn digits(self) -> String {
                self.to_string()[$prefix.len() + 1..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                show($prefix, self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                parse($prefix, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    )*};
}

fn base62(mut value: u128) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = [b'0'; 12];
    for place in out.iter_mut().rev() {
        *place = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    String::from_utf8_lossy(&out).into_owned()
}

ids! {
    /// An instance.
    InstanceId = "i";
    /// An EBS volume.
    VolumeId = "vol";
    /// A snapshot of a volume.
    SnapshotId = "snap";
    /// An Amazon machine image.
    ImageId = "ami";
    /// A virtual private cloud.
    VpcId = "vpc";
    /// A subnet of a VPC.
    SubnetId = "subnet";
    /// An elastic network interface.
    InterfaceId = "eni";
    /// The attachment of a network interface to an instance.
    InterfaceAttachmentId = "eni-attach";
    /// A security group.
    GroupId = "sg";
    /// One rule of a security group.
    RuleId = "sgr";
    /// A key pair.
    KeyPairId = "key";
    /// A route table.
    RouteTableId = "rtb";
    /// The association of a route table with a subnet.
    RouteTableAssociationId = "rtbassoc";
    /// An internet gateway.
    InternetGatewayId = "igw";
    /// A network access control list.
    NetworkAclId = "acl";
    /// The association of a network ACL with a subnet.
    NetworkAclAssociationId = "aclassoc";
    /// A set of DHCP options.
    DhcpOptionsId = "dopt";
    /// An elastic address.
    AllocationId = "eipalloc";
    /// The association of an elastic address with an interface.
    AddressAssociationId = "eipassoc";
    /// The association of a CIDR block with a VPC.
    VpcCidrAssociationId = "vpc-cidr-assoc";
    /// The instances that one RunInstances call launched.
    ReservationId = "r";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_spelling() {
        for text in
            ["i-0123456789abcdef0", "i-fffffffffffffffff", "i-00000000000000001", "i-1234abcd", "i-00000001"]
        {
            assert_eq!(text.parse::<InstanceId>().unwrap().to_string(), text);
        }
        assert_ne!("i-00000001".parse::<InstanceId>(), "i-00000000000000001".parse());
        assert_eq!(InstanceId::from_random(u64::MAX).to_string(), "i-0ffffffffffffffff");
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "i",
            "i-",
            "i-123",
            "i-0123456789ABCDEF0",
            "vol-0123456789abcdef0",
            "i-0123456789abcdefg",
            "i-+123456789abcdef",
        ] {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
        assert!("eni-attach-0123456789abcdef0".parse::<InterfaceId>().is_err());
    }

    #[test]
    fn base62_is_twelve_characters_and_injective_at_the_edges() {
        let all =
            [0, 1, 61, 62, u64::MAX as u128, (1 << 68) - 1, SHORT_MARK, SHORT_MARK | 0xffff_ffff].map(base62);
        assert!(all.iter().all(|text| text.len() == 12));
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn serde_uses_the_text() {
        let id: VpcId = serde_json::from_str("\"vpc-0123456789abcdef0\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"vpc-0123456789abcdef0\"");
        assert!(serde_json::from_str::<VpcId>("\"subnet-0123456789abcdef0\"").is_err());
    }
}
