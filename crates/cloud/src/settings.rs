//! What the operator decided: the part of the configuration that rules depend on.

use std::ops::Range;

use ipnet::Ipv4Net;
use spec::storage::Architecture;

/// The operator's decisions. They come from the configuration file, not from the store, and do not
/// change while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The account that owns everything: twelve digits.
    pub account: String,
    /// The region's name: `us-east-1`.
    pub region: String,
    /// The letters of its availability zones: `a`, `b`, `c`.
    pub zones: Vec<char>,
    /// The public addresses that may be given out.
    pub public_pool: Ipv4Net,
    /// User ids for machines' processes.
    pub users: Range<u32>,
    /// Virtual CPUs for all guests together.
    pub vcpus: u32,
    /// Memory for all guests together, in MiB.
    pub memory_mib: u64,
    /// The processor architecture of the host, and so of every guest.
    pub architecture: Architecture,
    /// Room for all volumes together, in GiB; volumes are sparse, so this may exceed the disk.
    pub volume_gib: u64,
}

impl Settings {
    /// The names of the availability zones: `us-east-1a` …
    pub fn zone_names(&self) -> impl Iterator<Item = String> + '_ {
        self.zones.iter().map(|letter| format!("{}{letter}", self.region))
    }

    /// The domain of private host names: `ec2.internal` in us-east-1, `REGION.compute.internal`
    /// elsewhere (AWS, *DNS attributes for your VPC*).
    pub fn private_domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "ec2.internal".into(),
            region => format!("{region}.compute.internal"),
        }
    }

    /// The domain of public host names, after `ec2-198-18-0-5.`.
    pub fn public_domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "compute-1.amazonaws.com".into(),
            region => format!("{region}.compute.amazonaws.com"),
        }
    }
}

impl Default for Settings {
    /// What the configuration file says when it says nothing, on a machine of 8 processors and 16 GiB.
    fn default() -> Self {
        Self {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            zones: vec!['a', 'b', 'c'],
            public_pool: Ipv4Net::new_assert([198, 18, 0, 0].into(), 24),
            users: 0x6000_0000..0x6001_0000,
            vcpus: 32,
            memory_mib: 16 * 1024,
            architecture: Architecture::HERE,
            volume_gib: 16 * 1024,
        }
    }
}
