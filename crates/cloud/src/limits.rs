//! How much devices may do: what a volume's type and speeds mean for its disk, and an instance's type for its network
//! interfaces.
//!
//! A disk counts as EBS does on SSDs: each begun 256 KiB of a request is one operation (`Disk::limits`), so that a
//! volume out of credits is slow for large requests too, without a figure of its own. Two things EBS does are not done.
//! The most operations of st1 and sc1 (500 and 250 a second, of 1 MiB) are not counted: they assume that small
//! requests that follow each other are merged, which no one does here. And what a volume has saved up is as much as there
//! can be whenever its machine begins, not what it was when the last one ended.
//!
//! Sources: AWS, *Amazon EBS volume types* with its pages on General Purpose, Provisioned IOPS, HDD and previous
//! generation volumes; AWS, *Amazon EC2 instance network bandwidth*; AWS, *EBS-optimized instance types*.

use std::num::NonZeroU64;

use spec::machine::{Limits, Rate};

use crate::catalog::InstanceType;
use crate::model::{Volume, VolumeKind};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const GIB_PER_TIB: u64 = 1024;

/// Operations a second to which a gp2 volume with credits rises.
const GP2_PEAK: u64 = 3000;
/// The credits that a gp2 volume begins with, and the most it can have: half an hour at 3,000.
const GP2_CREDITS: u64 = 5_400_000;
/// The sizes in GiB above which a gp2 volume may move more than 128 MiB a second.
const GP2_SMALL: u64 = 170;
/// Magnetic volumes do "approximately 100 IOPS on average, with burst capability of up to hundreds". How long is not said:
/// here for a minute, at twice as many.
const STANDARD: (u64, u64, u64) = (100, 60 * 100, 200);
/// MiB a second that a magnetic volume moves at most.
const STANDARD_THROUGHPUT: u64 = 90;
/// Seconds for which an interface that was quiet has its peak: the shortest time of those that AWS names, "typically from 5
/// to 60 minutes, depending on the instance size".
const NETWORK_PEAK: u64 = 300;
/// What has no savings to speak of still has a tenth of a second's: a limit holds over moments, not from each request to
/// the next.
const MOMENTS_PER_SECOND: u64 = 10;

/// How much the disk of a volume may do.
pub fn of_disk(volume: &Volume) -> Limits {
    let gib = u64::from(volume.gib);
    let iops = u64::from(volume.iops.unwrap_or_default());
    match volume.kind {
        VolumeKind::Gp2 if iops < GP2_PEAK => both(
            saved_up(iops, GP2_CREDITS, GP2_PEAK),
            steady(if gib <= GP2_SMALL { 128 * MIB } else { 250 * MIB }),
        ),
        VolumeKind::Gp2 => both(steady(iops), steady(250 * MIB)),
        VolumeKind::Gp3 => both(steady(iops), steady(u64::from(volume.throughput.unwrap_or_default()) * MIB)),
        // 500 MiB a second up to 32,000 operations, from there 16 KiB for each.
        VolumeKind::Io1 => both(steady(iops), steady((500 * MIB).max(iops * 16 * KIB))),
        VolumeKind::Io2 => both(steady(iops), steady((iops * 256 * KIB).min(4000 * MIB))),
        VolumeKind::St1 => bytes_only(by_size(gib, 40, 250, 500)),
        VolumeKind::Sc1 => bytes_only(by_size(gib, 12, 80, 250)),
        VolumeKind::Standard => {
            let (average, burst, peak) = STANDARD;
            both(saved_up(average, burst, peak), steady(STANDARD_THROUGHPUT * MIB))
        }
    }
}

/// How much may pass through each network interface of an instance, in and out by itself: bytes. Amazon names no number of
/// packets for any type.
pub fn of_interface(kind: &InstanceType) -> Limits {
    let [baseline, peak] =
        [kind.network_mbit, kind.network_peak_mbit()].map(|mbit| u64::from(mbit) * 1_000_000 / 8);
    bytes_only(saved_up(baseline, peak.saturating_sub(baseline) * NETWORK_PEAK, peak))
}

/// How much an instance's volumes may do together on the host's disks. EC2 has a baseline too, to which a small type falls
/// after half an hour a day; here the maximum holds for good, since a volume's own speed is kept anyway.
pub fn of_machine(kind: &InstanceType) -> Limits {
    let (mbit, operations) = kind.storage_maximum();
    both(steady(operations.into()), steady(u64::from(mbit) * 1_000_000 / 8))
}

/// Bytes of an HDD volume: MiB a second for each TiB, in the long run and out of what was saved up, which is as many bytes
/// as the volume has; and a most.
fn by_size(gib: u64, baseline: u64, peak: u64, most: u64) -> Option<Rate> {
    let of_size = |each: u64| (gib * each * MIB / GIB_PER_TIB).min(most * MIB);
    saved_up(of_size(baseline), gib * GIB, of_size(peak))
}

fn saved_up(per_second: u64, burst: u64, peak: u64) -> Option<Rate> {
    let per_second = NonZeroU64::new(per_second)?;
    if peak <= per_second.get() {
        return steady(per_second.get());
    }
    Some(Rate { per_second, burst, peak: NonZeroU64::new(peak) })
}

fn steady(per_second: u64) -> Option<Rate> {
    let per_second = NonZeroU64::new(per_second)?;
    Some(Rate { per_second, burst: per_second.get() / MOMENTS_PER_SECOND, peak: None })
}

fn both(operations: Option<Rate>, bytes: Option<Rate>) -> Limits {
    Limits { operations, bytes }
}

fn bytes_only(bytes: Option<Rate>) -> Limits {
    Limits { operations: None, bytes }
}

#[cfg(test)]
mod tests {
    use spec::ids::VolumeId;

    use super::*;
    use crate::catalog;
    use crate::model::Tags;
    use crate::rules::performance::{Performance, check};
    use crate::time::Timestamp;
    use VolumeKind::*;

    fn limits(kind: VolumeKind, gib: u32, iops: Option<u32>, throughput: Option<u32>) -> Limits {
        let Performance { iops, throughput } = check(kind, gib, Performance { iops, throughput }).unwrap();
        of_disk(&Volume {
            id: VolumeId::from_random(1),
            gib,
            zone: String::new(),
            kind,
            iops,
            throughput,
            base: None,
            created: Timestamp(0),
            attachment: None,
            modification: None,
            client_token: None,
            doomed: false,
            tags: Tags::new(),
        })
    }

    /// In the long run and at the peak.
    fn speeds(rate: Option<Rate>) -> (u64, u64) {
        rate.map_or((0, 0), |rate| (rate.per_second.get(), rate.peak.unwrap_or(rate.per_second).get()))
    }

    fn mib(rate: Option<Rate>) -> (u64, u64) {
        let (long, peak) = speeds(rate);
        (long / MIB, peak / MIB)
    }

    #[test]
    fn operations_are_those_of_amazons_table() {
        for (kind, gib, iops, expected) in [
            (Gp2, 8, None, (100, 3000)),
            (Gp2, 100, None, (300, 3000)),
            (Gp2, 999, None, (2997, 3000)),
            (Gp2, 1000, None, (3000, 3000)),
            (Gp2, 5334, None, (16_000, 16_000)),
            (Gp3, 8, None, (3000, 3000)),
            (Gp3, 100, Some(16_000), (16_000, 16_000)),
            (Io1, 100, Some(5000), (5000, 5000)),
            (Io2, 8, Some(100), (100, 100)),
            (St1, 500, None, (0, 0)),
            (Standard, 10, None, (100, 200)),
        ] {
            let operations = limits(kind, gib, iops, None).operations;
            assert_eq!(speeds(operations), expected, "{kind:?} {gib} {iops:?}");
        }
        let credits = limits(Gp2, 8, None, None).operations.unwrap().burst;
        assert_eq!(credits, 30 * 60 * 3000, "half an hour");
    }

    #[test]
    fn bytes_are_those_of_amazons_table() {
        for (kind, gib, iops, throughput, expected) in [
            (Gp2, 170, None, None, (128, 128)),
            (Gp2, 171, None, None, (250, 250)),
            (Gp2, 2000, None, None, (250, 250)),
            (Gp3, 8, None, None, (125, 125)),
            (Gp3, 8, Some(4000), Some(1000), (1000, 1000)),
            (Io1, 100, Some(2000), None, (500, 500)),
            (Io1, 1280, Some(64_000), None, (1000, 1000)),
            (Io2, 8, Some(100), None, (25, 25)),
            (Io2, 100, Some(20_000), None, (4000, 4000)),
            (St1, 1024, None, None, (40, 250)),
            (St1, 2048, None, None, (80, 500)),
            (St1, 16_384, None, None, (500, 500)),
            (Sc1, 1024, None, None, (12, 80)),
            (Sc1, 16_384, None, None, (192, 250)),
            (Standard, 10, None, None, (90, 90)),
        ] {
            let bytes = limits(kind, gib, iops, throughput).bytes;
            assert_eq!(mib(bytes), expected, "{kind:?} {gib} {iops:?}");
        }
        assert_eq!(limits(St1, 125, None, None).bytes.unwrap().burst, 125 << 30, "as much as it holds");
    }

    #[test]
    fn interfaces_have_their_types_bandwidth() {
        for (name, baseline, peak) in
            [("t3.nano", 4_000_000, 625_000_000), ("m5.large", 93_750_000, 1_250_000_000)]
        {
            let limits = of_interface(catalog::find(name).unwrap());
            assert_eq!(speeds(limits.bytes), (baseline, peak), "{name}");
            assert_eq!(limits.bytes.unwrap().burst / (peak - baseline), 300, "{name}: seconds at the peak");
            assert_eq!(limits.operations, None);
        }
    }

    #[test]
    fn machines_have_their_types_maximum_of_ebs() {
        let limits = of_machine(catalog::find("t3.nano").unwrap());
        assert_eq!((speeds(limits.bytes).0, speeds(limits.operations).0), (260_625_000, 11_800));
    }
}
