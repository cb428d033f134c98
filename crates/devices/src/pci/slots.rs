//! Which device sits in which slot of bus 0, for good.
//!
//! A Linux guest names a NIC by its slot (`enp0s5`) and probes disks in the order of their slots (`vda`
//! first), so a device must never move because another came or went. Each kind therefore has slots of its
//! own. The root disk and the first NIC have the numbers that they have on EC2's own Nitro machines;
//! those keep 0x05 for the NIC, hence `ens5` and `enp0s5`.
//!
//! ```text
//! 0x00        host bridge
//! 0x01        entropy
//! 0x02        balloon
//! 0x03        sockets to the host
//! 0x04        disk 0, the root disk
//! 0x05        NIC 0
//! 0x06–0x07   kept
//! 0x08–0x0f   PCIe root ports, as many as the machine has: what comes and goes while it runs
//! 0x10–0x17   disks 1 to 8, where they are in no port
//! 0x18–0x1f   NICs 1 to 8, likewise
//! ```
//!
//! Behind port *n* is bus *n* + 1, as a guest finds it; it may number buses otherwise.

/// Slots on a bus.
pub const COUNT: u8 = 32;

/// The host bridge.
pub const HOST_BRIDGE: u8 = 0x00;
/// The entropy device.
pub const ENTROPY: u8 = 0x01;
/// The balloon.
pub const BALLOON: u8 = 0x02;

/// The sockets to the host.
pub const SOCKETS: u8 = 0x03;
/// Root ports that a machine may have.
pub const PORTS: u8 = 8;
const FIRST_PORT: u8 = 0x08;

/// Disks that a machine can begin with, the root disk included.
pub const DISKS: usize = 9;
/// NICs that a machine can begin with.
pub const NICS: usize = 9;

/// The slot of the disk with this index.
pub fn disk(index: usize) -> Option<u8> {
    place(index, 0x04, 0x10, DISKS)
}

/// The slot of the NIC with this index.
pub fn nic(index: usize) -> Option<u8> {
    place(index, 0x05, 0x18, NICS)
}

/// The slot of the root port with this index.
pub fn port(index: u8) -> Option<u8> {
    (index < PORTS).then(|| FIRST_PORT + index)
}

/// The bus behind the root port with this index.
pub const fn bus_behind(index: u8) -> u8 {
    index + 1
}

/// The last bus of a machine with so many root ports. A kernel looks for devices on all buses up to that one, so it is
/// told of no more than there are.
pub const fn last_bus(ports: u8) -> u8 {
    ports
}

fn place(index: usize, first: u8, others: u8, count: usize) -> Option<u8> {
    match u8::try_from(index).ok().filter(|_| index < count)? {
        0 => Some(first),
        later => Some(others + later - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_a_slot() {
        let mut taken: Vec<u8> = vec![HOST_BRIDGE, ENTROPY, BALLOON, SOCKETS];
        taken.extend((0..DISKS).filter_map(disk));
        taken.extend((0..NICS).filter_map(nic));
        taken.extend((0..PORTS).filter_map(port));
        let count = 4 + DISKS + NICS + usize::from(PORTS);
        assert_eq!(taken.len(), count);
        assert!(taken.iter().all(|slot| *slot < COUNT));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), count);
        assert_eq!((disk(DISKS), nic(NICS), port(PORTS)), (None, None, None));
    }
}
