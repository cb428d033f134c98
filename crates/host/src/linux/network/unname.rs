//! Ids back from the names of links, for links that bear no other sign of whose they are.

use std::str::FromStr;

use spec::ids::{InterfaceId, VpcId};
use spec::names;

/// The interface that a TAP of this name carries.
pub(super) fn interface_of_tap(name: &str) -> Option<InterfaceId> {
    named(name, names::TAP, InterfaceId::PREFIX, names::tap)
}

/// The VPC whose uplink ends in the host's link of this name.
pub(super) fn vpc_of_uplink(name: &str) -> Option<VpcId> {
    named(name, names::UPLINK_HOST, VpcId::PREFIX, names::uplink_host)
}

/// The id that `rename` makes this very name of.
fn named<T: FromStr + Copy>(name: &str, prefix: &str, kind: &str, rename: impl Fn(T) -> String) -> Option<T> {
    let value = value(name.strip_prefix(prefix)?)?;
    let candidates = [format!("{kind}-{value:017x}"), format!("{kind}-{:08x}", value & 0xffff_ffff)];
    candidates.iter().filter_map(|text| text.parse().ok()).find(|id| rename(*id) == name)
}

/// The number that base-62 digits stand for.
fn value(digits: &str) -> Option<u128> {
    digits.chars().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            '0'..='9' => u32::from(digit) - u32::from('0'),
            'A'..='Z' => u32::from(digit) - u32::from('A') + 10,
            'a'..='z' => u32::from(digit) - u32::from('a') + 36,
            _ => return None,
        };
        value.checked_mul(62)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_forms_of_id_are_read_back() {
        for text in
            ["eni-0123456789abcdef0", "eni-fffffffffffffffff", "eni-00000000000000000", "eni-1234abcd"]
        {
            let id: InterfaceId = text.parse().unwrap();
            assert_eq!(interface_of_tap(&names::tap(id)), Some(id));
        }
        let vpc: VpcId = "vpc-0a1b2c3d4e5f60718".parse().unwrap();
        assert_eq!(vpc_of_uplink(&names::uplink_host(vpc)), Some(vpc));
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in
            ["", "cut", "eth0", "cutzzzzzzzzzzzz", "cut00000000000", "cut-00000000000", "cub000000000001"]
        {
            assert_eq!(interface_of_tap(name), None, "{name}");
        }
    }
}
