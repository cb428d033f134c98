//! The instance types this cloud offers, under EC2's names and with EC2's sizes.
//!
//! Source: AWS, *Amazon EC2 instance types*, specifications of the T2, T3, T4g, M5, M6g, C5 and C6g families: the tables of
//! performance, network ("baseline / burst") and EBS. Of T2 they say neither the network's baseline nor anything of EBS:
//! there it has what T3 has in the same size.

use spec::storage::Architecture::{self, Arm64, X86_64};

/// Root ports of every machine: the places for all volumes but the root volume and all network interfaces but the
/// primary one, which come and go there while it runs. `docs/decisions/0024-eight-root-ports.md` says why so many.
pub const PORTS: u8 = 8;
/// Volumes of an instance at most: the root volume, and one in each port that no network interface is in.
pub const MAX_VOLUMES: usize = PORTS as usize + 1;

/// An instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// Its name: `t3.micro`.
    pub name: &'static str,
    /// The processor it has.
    pub architecture: Architecture,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Network interfaces at most.
    pub max_interfaces: u32,
    /// Private IPv4 addresses for each interface at most.
    pub addresses_per_interface: u32,
    /// Bandwidth of its network in the long run, in Mbit/s, in each direction.
    pub network_mbit: u32,
}

impl InstanceType {
    /// Its family: `t3`.
    pub fn family(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }

    /// Its performance varies with a balance of credits on EC2.
    pub fn burstable(&self) -> bool {
        self.name.starts_with('t')
    }

    /// Bandwidth to which its network rises for minutes, in Mbit/s, in each direction.
    pub fn network_peak_mbit(&self) -> u32 {
        match self.family() {
            "t2" => 1000,
            "t3" | "t4g" => 5000,
            _ => 10_000,
        }
    }

    /// What its volumes do together at most, in Mbit/s and in operations a second: "maximum bandwidth" and "maximum IOPS".
    pub fn storage_maximum(&self) -> (u32, u32) {
        match (self.family(), self.name.ends_with("large")) {
            ("t2" | "t3" | "t4g", false) => (2085, 11_800),
            ("t2" | "t3" | "t4g", true) => (2780, 15_700),
            ("m5", _) => (4750, 18_750),
            _ => (4750, 20_000),
        }
    }

    /// Processor cores: EC2 counts two threads to a core on x86_64 but for T2, one on Arm.
    pub fn cores(&self) -> u8 {
        self.vcpus / self.threads_per_core()
    }

    /// Threads of a core.
    pub fn threads_per_core(&self) -> u8 {
        match (self.architecture, self.family()) {
            (X86_64, "t2") | (Arm64, _) => 1,
            (X86_64, _) => 2,
        }
    }
}

const fn of(
    name: &'static str,
    architecture: Architecture,
    vcpus: u8,
    memory_mib: u32,
    max_interfaces: u32,
    addresses_per_interface: u32,
    network_mbit: u32,
) -> InstanceType {
    InstanceType {
        name,
        architecture,
        vcpus,
        memory_mib,
        max_interfaces,
        addresses_per_interface,
        network_mbit,
    }
}

const ALL: &[InstanceType] = &[
    of("c5.large", X86_64, 2, 4 * 1024, 3, 10, 750),
    of("c5.xlarge", X86_64, 4, 8 * 1024, 4, 15, 1250),
    of("c6g.large", Arm64, 2, 4 * 1024, 3, 10, 750),
    of("c6g.medium", Arm64, 1, 2 * 1024, 2, 4, 500),
    of("c6g.xlarge", Arm64, 4, 8 * 1024, 4, 15, 1250),
    of("m5.large", X86_64, 2, 8 * 1024, 3, 10, 750),
    of("m5.xlarge", X86_64, 4, 16 * 1024, 4, 15, 1250),
    of("m6g.large", Arm64, 2, 8 * 1024, 3, 10, 750),
    of("m6g.medium", Arm64, 1, 4 * 1024, 2, 4, 500),
    of("m6g.xlarge", Arm64, 4, 16 * 1024, 4, 15, 1250),
    of("t2.large", X86_64, 2, 8 * 1024, 3, 12, 512),
    of("t2.medium", X86_64, 2, 4 * 1024, 3, 6, 256),
    of("t2.micro", X86_64, 1, 1024, 2, 2, 64),
    of("t2.nano", X86_64, 1, 512, 2, 2, 32),
    of("t2.small", X86_64, 1, 2 * 1024, 3, 4, 128),
    of("t3.large", X86_64, 2, 8 * 1024, 3, 12, 512),
    of("t3.medium", X86_64, 2, 4 * 1024, 3, 6, 256),
    of("t3.micro", X86_64, 2, 1024, 2, 2, 64),
    of("t3.nano", X86_64, 2, 512, 2, 2, 32),
    of("t3.small", X86_64, 2, 2 * 1024, 3, 4, 128),
    of("t4g.large", Arm64, 2, 8 * 1024, 3, 12, 512),
    of("t4g.medium", Arm64, 2, 4 * 1024, 3, 6, 256),
    of("t4g.micro", Arm64, 2, 1024, 2, 2, 64),
    of("t4g.nano", Arm64, 2, 512, 2, 2, 32),
    of("t4g.small", Arm64, 2, 2 * 1024, 3, 4, 128),
];

/// The types a host of that architecture can run, by name.
pub fn types(architecture: Architecture) -> impl Iterator<Item = &'static InstanceType> {
    ALL.iter().filter(move |kind| kind.architecture == architecture)
}

/// The type of that name, whatever its architecture.
pub fn find(name: &str) -> Option<&'static InstanceType> {
    ALL.iter().find(|kind| kind.name == name)
}

/// The type an instance gets that names none: the smallest of general purpose that EC2's
/// own default, `m1.small`, is nearest to.
pub fn default_type(architecture: Architecture) -> &'static str {
    match architecture {
        X86_64 => "t3.small",
        Arm64 => "t4g.small",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_whole_and_found_by_name() {
        assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
        for kind in ALL {
            assert_eq!(find(kind.name), Some(kind));
            assert!(kind.cores() >= 1 && kind.memory_mib >= 512 && kind.max_interfaces >= 2, "{}", kind.name);
        }
        for architecture in [X86_64, Arm64] {
            assert_eq!(find(default_type(architecture)).map(|kind| kind.architecture), Some(architecture));
        }
        assert_eq!(find("t3.nanoo"), None);
    }
}
