//! Addresses as arithmetic: which are free in a subnet, which in the public pool.
//!
//! A free address is sought from a random place on, so that an address just given back is not at once
//! somebody else's: clients still remember who had it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use spec::ids::SubnetId;

use crate::model::Subnet;
use crate::refusal::{Reason, Refusal};
use crate::world::World;

/// Addresses at the beginning of each subnet that are the VPC's: the network's own, router, resolver, and one
/// in reserve. The last address is too (AWS, *Subnet CIDR blocks*).
const RESERVED_FIRST: u32 = 4;

/// How many addresses are left in a subnet.
pub fn free_in(world: &World, subnet: &Subnet) -> u32 {
    let used = world.addresses_taken(subnet.id);
    usable(subnet.cidr).map_or(0, |(first, last)| (last - first + 1).saturating_sub(used))
}

/// A free address of a subnet; `wish` if it is given and free.
pub fn choose(
    world: &World,
    subnet: &Subnet,
    wish: Option<Ipv4Addr>,
    random: u64,
) -> Result<Ipv4Addr, Refusal> {
    let used = |address| world.has_address(subnet.id, address);
    match wish {
        Some(address) => check_wish(subnet.id, subnet.cidr, used, address).map(|()| address),
        None => usable(subnet.cidr)
            .and_then(|(first, last)| next_free_address(first, last, random, used))
            .ok_or_else(|| {
                Refusal::new(
                    Reason::InsufficientAddresses,
                    format!(
                        "There are not enough free addresses in subnet '{}' ({})",
                        subnet.id, subnet.cidr
                    ),
                )
            }),
    }
}

fn check_wish(
    subnet: SubnetId,
    cidr: Ipv4Net,
    used: impl Fn(Ipv4Addr) -> bool,
    address: Ipv4Addr,
) -> Result<(), Refusal> {
    let inside = usable(cidr).is_some_and(|(first, last)| (first..=last).contains(&u32::from(address)));
    if !cidr.contains(&address) {
        let text = format!("Address {address} does not fall within the subnet's address range ({cidr})");
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    if !inside {
        let text = format!("Address {address} is in subnet {subnet}'s reserved address range");
        return Err(Refusal::new(Reason::InvalidValue, text));
    }
    if used(address) {
        return Err(Refusal::new(Reason::AddressInUse, format!("Address {address} is in use")));
    }
    Ok(())
}

/// A public address of the pool that nobody has, and that is not the one `interface` had before.
pub fn choose_public(world: &World, before: Option<Ipv4Addr>, random: u64) -> Result<Ipv4Addr, Refusal> {
    let used = |address| Some(address) == before || world.has_public_address(address);
    let pool = world.settings.public_pool;
    // The network's own address and the last one are left alone: some clients refuse them.
    let (first, last) = (u32::from(pool.network()) + 1, u32::from(pool.broadcast()).saturating_sub(1));
    next_free_address(first, last, random, used).ok_or_else(|| {
        Refusal::new(
            Reason::InsufficientPublicAddresses,
            format!("All public addresses of the pool {pool} are in use"),
        )
    })
}

fn usable(cidr: Ipv4Net) -> Option<(u32, u32)> {
    let first = u32::from(cidr.network()).checked_add(RESERVED_FIRST)?;
    let last = u32::from(cidr.broadcast()).checked_sub(1)?;
    (first <= last).then_some((first, last))
}

fn next_free_address(
    first: u32,
    last: u32,
    random: u64,
    used: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    next_free(first, last, random, |number| used(number.into())).map(Ipv4Addr::from)
}

/// The first number that is not used, from a random one on and around.
pub(crate) fn next_free(first: u32, last: u32, random: u64, used: impl Fn(u32) -> bool) -> Option<u32> {
    let count = u64::from(last.checked_sub(first)?) + 1;
    let start = random % count;
    let mut around = (0..count).map(|step| first + u32::try_from((start + step) % count).unwrap_or_default());
    around.find(|number| !used(*number))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_28_has_eleven_addresses_and_each_is_found_once() {
        let cidr: Ipv4Net = "10.0.0.16/28".parse().unwrap();
        let (first, last) = usable(cidr).unwrap();
        let mut used = BTreeSet::new();
        for random in 0..11_u64 {
            let address = next_free_address(first, last, random * 7919, |a| used.contains(&a)).unwrap();
            assert!(used.insert(address));
        }
        assert_eq!(used.first(), Some(&Ipv4Addr::new(10, 0, 0, 20)));
        assert_eq!(used.last(), Some(&Ipv4Addr::new(10, 0, 0, 30)));
        assert_eq!(next_free_address(first, last, 3, |a| used.contains(&a)), None);
    }

    #[test]
    fn wishes_are_checked() {
        let cidr: Ipv4Net = "10.0.0.0/24".parse().unwrap();
        let used = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 9)]);
        let check = |text: &str| {
            check_wish(SubnetId::from_random(1), cidr, |a| used.contains(&a), text.parse().unwrap())
                .map_err(|refusal| refusal.reason)
        };
        assert_eq!(check("10.0.0.8"), Ok(()));
        assert_eq!(check("10.0.0.9"), Err(Reason::AddressInUse));
        for address in ["10.0.0.1", "10.0.0.3", "10.0.0.255", "10.0.1.8"] {
            assert_eq!(check(address), Err(Reason::InvalidValue), "{address}");
        }
    }
}
