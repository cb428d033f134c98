//! What a volume's type allows: sizes, I/O operations and MiB a second.
//!
//! What follows from them for the disk of a running instance: [`crate::limits`].
//! Source: AWS API reference, *EbsBlockDevice*; AWS, *Amazon EBS volume types*.

use crate::model::VolumeKind;
use crate::refusal::{Reason, Refusal};

/// What is said of a volume's speed, or what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Performance {
    /// I/O operations a second.
    pub iops: Option<u32>,
    /// MiB a second.
    pub throughput: Option<u32>,
}

/// EC2's name of a type.
fn name(kind: VolumeKind) -> String {
    format!("{kind:?}").to_lowercase()
}

impl Performance {
    /// What a change says, and for what it does not: what the volume has, where it keeps a type to which that can be said;
    /// for another such type 3,000 operations (AWS API reference, *ModifyVolume*).
    pub fn or_kept(self, (kind, has): (VolumeKind, Performance), new: VolumeKind) -> Self {
        use VolumeKind::{Gp3, Io1, Io2};
        match new {
            Gp3 | Io1 | Io2 if new == kind => {
                let Self { iops, throughput } = self;
                Self { iops: iops.or(has.iops), throughput: throughput.or(has.throughput) }
            }
            Gp3 | Io1 | Io2 => Self { iops: self.iops.or(Some(3000)), ..self },
            _ => self,
        }
    }
}

/// The performance of a volume of `gib` GiB: as it is said, where its type allows it, or its type's own.
pub fn check(kind: VolumeKind, gib: u32, said: Performance) -> Result<Performance, Refusal> {
    use VolumeKind::*;
    let sizes = match kind {
        Gp2 | Io1 => (if kind == Gp2 { 1 } else { 4 }, 16 * 1024),
        Gp3 => (1, 64 * 1024),
        Io2 => (4, 64 * 1024),
        St1 | Sc1 => (125, 16 * 1024),
        Standard => (1, 1024),
    };
    between(&format!("size in GiB of a {} volume", name(kind)), gib, sizes)?;
    if said.throughput.is_some() && kind != Gp3 {
        return Err(not_for(kind, "throughput"));
    }
    match (kind, said.iops) {
        (Gp3, iops) => {
            let (iops, throughput) = (iops.unwrap_or(3000), said.throughput.unwrap_or(125));
            between("iops", iops, (3000, 80_000))?;
            between("throughput", throughput, (125, 2000))?;
            // The least that can be said goes with every size.
            ratio(iops, gib, 500).or_else(|refusal| if iops == 3000 { Ok(()) } else { Err(refusal) })?;
            if throughput > iops / 4 {
                let text = format!(
                    "Throughput (MiBps) to iops ratio of {:.6} is too high; maximum is 0.250000 MiBps per iops.",
                    f64::from(throughput) / f64::from(iops)
                );
                return Err(Refusal::new(Reason::InvalidValue, text));
            }
            Ok(Performance { iops: Some(iops), throughput: Some(throughput) })
        }
        (Io1 | Io2, Some(iops)) => {
            let (most, each) = if kind == Io1 { (64_000, 50) } else { (256_000, 1000) };
            between("iops", iops, (100, most))?;
            ratio(iops, gib, each)?;
            Ok(Performance { iops: Some(iops), throughput: None })
        }
        (Io1 | Io2, None) => {
            let text = format!("The parameter iops must be specified for {} volumes.", name(kind));
            Err(Refusal::new(Reason::InvalidCombination, text))
        }
        (_, Some(_)) => Err(not_for(kind, "iops")),
        (Gp2, None) => Ok(Performance { iops: Some((3 * gib).clamp(100, 16_000)), throughput: None }),
        (Standard | St1 | Sc1, None) => Ok(Performance::default()),
    }
}

fn not_for(kind: VolumeKind, what: &str) -> Refusal {
    let text = format!("The parameter {what} is not supported for {} volumes.", name(kind));
    Refusal::new(Reason::InvalidCombination, text)
}

fn between(what: &str, value: u32, (least, most): (u32, u32)) -> Result<(), Refusal> {
    let (bound, side) = match value {
        low if low < least => (format!("minimum is {least}"), "low"),
        high if high > most => (format!("maximum is {most}"), "high"),
        _ => return Ok(()),
    };
    let text = format!("Volume {what} of {value} is too {side}; {bound}.");
    Err(Refusal::new(Reason::InvalidValue, text))
}

/// At most so many operations a second for each GiB.
fn ratio(iops: u32, gib: u32, most: u32) -> Result<(), Refusal> {
    if u64::from(iops) <= u64::from(gib) * u64::from(most) {
        return Ok(());
    }
    let text = format!(
        "Iops to volume size ratio of {:.6} is too high; maximum is {most}",
        f64::from(iops) / f64::from(gib.max(1))
    );
    Err(Refusal::new(Reason::InvalidValue, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use VolumeKind::*;

    fn bounded(kind: VolumeKind, gib: u32, iops: u32, throughput: u32) -> Result<(u32, u32), Reason> {
        let said = |number| Some(number).filter(|number| *number > 0);
        let said = Performance { iops: said(iops), throughput: said(throughput) };
        let has = check(kind, gib, said).map_err(|refusal| refusal.reason)?;
        Ok((has.iops.unwrap_or_default(), has.throughput.unwrap_or_default()))
    }

    #[test]
    fn what_is_not_said_is_the_types_own() {
        assert_eq!(bounded(Gp3, 1, 0, 0), Ok((3000, 125)));
        assert_eq!(bounded(Gp2, 8, 0, 0), Ok((100, 0)));
        assert_eq!(bounded(Gp2, 100, 0, 0), Ok((300, 0)));
        assert_eq!(bounded(Gp2, 16_384, 0, 0), Ok((16_000, 0)));
        assert_eq!(bounded(St1, 125, 0, 0), Ok((0, 0)));
    }

    #[test]
    fn bounds_and_ratios_are_ec2s() {
        for (kind, gib, iops, throughput) in [
            (Gp3, 8, 4000, 0),
            (Gp3, 160, 80_000, 2000),
            (Gp3, 8, 4000, 1000),
            (Io1, 8, 400, 0),
            (Io2, 8, 8000, 0),
        ] {
            assert!(bounded(kind, gib, iops, throughput).is_ok(), "{kind:?} {gib} {iops} {throughput}");
        }
        for (kind, gib, iops, throughput) in [
            (Gp3, 8, 100, 0),
            (Gp3, 8, 80_001, 0),
            (Gp3, 8, 4001, 0),
            (Gp3, 8, 0, 100),
            (Gp3, 8, 4000, 1001),
            (Gp3, 0, 0, 0),
            (Gp3, 65_537, 0, 0),
            (Io1, 8, 401, 0),
            (Io1, 3, 100, 0),
            (Io2, 8, 99, 0),
            (St1, 8, 0, 0),
        ] {
            let refused = bounded(kind, gib, iops, throughput);
            assert_eq!(refused, Err(Reason::InvalidValue), "{kind:?} {gib} {iops} {throughput}");
        }
        for (kind, iops, throughput) in
            [(Io1, 0, 0), (Gp2, 3000, 0), (Gp2, 0, 125), (St1, 500, 0), (Io2, 500, 125)]
        {
            let refused = bounded(kind, 125, iops, throughput);
            assert_eq!(refused, Err(Reason::InvalidCombination), "{kind:?} {iops} {throughput}");
        }
    }

    #[test]
    fn what_a_change_does_not_say_stays_with_the_type() {
        let said = |iops, throughput| Performance { iops, throughput };
        let has = said(Some(4000), Some(250));
        assert_eq!(said(None, Some(500)).or_kept((Gp3, has), Gp3), said(Some(4000), Some(500)));
        assert_eq!(said(Some(100), None).or_kept((Io1, has), Io1).iops, Some(100));
        // Another type: 3,000 where it has a number at all.
        assert_eq!(said(None, None).or_kept((Gp3, has), Io2), said(Some(3000), None));
        assert_eq!(said(None, None).or_kept((Io1, has), Gp3), said(Some(3000), None));
        assert_eq!(said(None, None).or_kept((Gp3, has), Gp2), said(None, None));
        // What follows from the size is counted anew.
        assert_eq!(said(None, None).or_kept((Gp2, has), Gp2), said(None, None));
    }
}
