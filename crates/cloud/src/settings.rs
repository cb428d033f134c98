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
    /// Whether disks and network interfaces get no more than EC2 gives their types.
    pub limit_speeds: bool,
    /// Whether that is so for network interfaces too: nobody counts packets that the host's kernel carries itself.
    pub limit_packets: bool,
}

impl Settings {
    /// The names of the availability zones: `us-east-1a` …
    pub fn zone_names(&self) -> impl Iterator<Item = String> + '_ {
        self.zones.iter().map(|letter| format!("{}{letter}", self.region))
    }

    /// The id of a zone, `use1-az1` for us-east-1a: EC2 gives each account's letters ids of their own; here the
    /// first letter is the first zone. The region in short is its first word and the initials of what
    /// it says after that, as in `apse2` for ap-southeast-2 (AWS, *Availability Zone IDs*).
    pub fn zone_id(&self, zone: &str) -> String {
        let (area, place) = self.region.split_once('-').unwrap_or((&self.region, ""));
        let mut short = area.to_owned();
        let mut rest = place;
        while let Some(first) = rest.chars().next() {
            let word = ["north", "south", "east", "west", "central", "gov", "iso"];
            let known = word.into_iter().find(|word| rest.starts_with(word));
            rest = &rest[known.map_or(first.len_utf8(), str::len)..];
            short.extend(Some(first).filter(|first| known.is_some() || first.is_ascii_digit()));
        }
        let letter = zone.bytes().last().filter(u8::is_ascii_lowercase).unwrap_or(b'a');
        format!("{short}-az{}", letter - b'a' + 1)
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
            limit_speeds: true,
            limit_packets: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_the_ids_that_regions_and_letters_give_them() {
        for (region, zone, id) in [
            ("us-east-1", "us-east-1a", "use1-az1"),
            ("ap-southeast-2", "ap-southeast-2c", "apse2-az3"),
            ("eu-central-1", "eu-central-1b", "euc1-az2"),
            ("us-gov-west-1", "us-gov-west-1a", "usgw1-az1"),
            ("cn-northwest-1", "cn-northwest-1a", "cnnw1-az1"),
            ("home", "homea", "home-az1"),
        ] {
            let settings = Settings { region: region.into(), ..Settings::default() };
            assert_eq!(settings.zone_id(zone), id);
        }
    }
}
