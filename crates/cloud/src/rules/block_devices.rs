//! The volumes that a launch makes: the image's root disk and further ones.
//!
//! Source: AWS API reference, *BlockDeviceMapping*; AWS, *Block device mappings*.

use std::collections::BTreeSet;

use spec::ids::*;

use crate::catalog::MAX_VOLUMES;
use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::performance::{self, Performance};
use crate::tx::Tx;

/// One block device mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockDevice {
    /// The device's name: `/dev/sdf`.
    pub device: String,
    /// Its size in GiB; the image's where it is the root disk and does not say.
    pub gib: Option<u32>,
    /// Its type; `gp3` for the root disk, else `gp2`, where it is not said.
    pub kind: Option<VolumeKind>,
    /// Its speed.
    pub performance: Performance,
    /// It goes with the instance. Every volume made at launch does, unless it is said.
    pub delete_on_termination: Option<bool>,
}

/// A volume to be made for each instance.
pub(super) struct NewVolume {
    device: String,
    pub(super) gib: u32,
    kind: VolumeKind,
    performance: Performance,
    base: Option<ImageId>,
    delete_on_termination: bool,
}

/// The root disk first, then the further volumes.
pub(super) fn check_volumes(image: &Image, devices: &[BlockDevice]) -> Result<Vec<NewVolume>, Refusal> {
    let bad = |text: String| Refusal::new(Reason::InvalidBlockDeviceMapping, text);
    let mut names = BTreeSet::from([image.root_device.as_str()]);
    let is_root = |device: &&BlockDevice| device.device == image.root_device;
    let root = devices.iter().find(is_root);
    let mut volumes = vec![root_volume(image, root)?];
    if devices.iter().filter(is_root).count() > 1 {
        return Err(bad(format!(
            "The device '{}' is used in more than one block device mapping",
            image.root_device
        )));
    }
    for device in devices.iter().filter(|device| !is_root(device)) {
        if !is_device_name(&device.device) {
            return Err(bad(format!("Invalid device name {}", device.device)));
        }
        if !names.insert(&device.device) {
            return Err(bad(format!(
                "The device '{}' is used in more than one block device mapping",
                device.device
            )));
        }
        let gib = device
            .gib
            .ok_or_else(|| bad(format!("The size of the volume '{}' is missing", device.device)))?;
        volumes.push(new_volume(device, gib, VolumeKind::Gp2, None)?);
    }
    if volumes.len() > MAX_VOLUMES {
        let text = format!("An instance can have {MAX_VOLUMES} volumes, {} were asked for", volumes.len());
        return Err(Refusal::new(Reason::LimitExceeded(Kind::Attachment), text));
    }
    Ok(volumes)
}

fn root_volume(image: &Image, mapping: Option<&BlockDevice>) -> Result<NewVolume, Refusal> {
    let least = image.least_gib();
    let plain = BlockDevice { device: image.root_device.clone(), ..BlockDevice::default() };
    let device = mapping.unwrap_or(&plain);
    let gib = device.gib.unwrap_or(least);
    if gib < least {
        let text = format!(
            "Volume of size {gib}GB is smaller than the image '{}', expect size >= {least}GB",
            image.id
        );
        return Err(Refusal::new(Reason::InvalidBlockDeviceMapping, text));
    }
    new_volume(device, gib, VolumeKind::Gp3, Some(image.id))
}

fn new_volume(
    device: &BlockDevice,
    gib: u32,
    default_kind: VolumeKind,
    base: Option<ImageId>,
) -> Result<NewVolume, Refusal> {
    let kind = device.kind.unwrap_or(default_kind);
    let performance = performance::check(kind, gib, device.performance)?;
    Ok(NewVolume {
        device: device.device.clone(),
        gib,
        kind,
        performance,
        base,
        delete_on_termination: device.delete_on_termination.unwrap_or(true),
    })
}

/// `/dev/sdf`, `/dev/xvdba`, `/dev/sda1`: as AWS's *Device names for volumes* has them.
pub(super) fn is_device_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("/dev/sd").or_else(|| name.strip_prefix("/dev/xvd")) else {
        return false;
    };
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &rest[letters.len()..];
    (1..=2).contains(&letters.len()) && letters.bytes().all(|b| b.is_ascii_lowercase()) && digits.len() <= 2
}

/// Makes the volumes of one instance.
pub(super) fn write_volumes(
    tx: &mut Tx<'_>,
    volumes: &[NewVolume],
    zone: &str,
    instance: InstanceId,
    tags: &Tags,
) {
    for volume in volumes {
        let id = VolumeId::from_random(tx.random());
        tx.put(Volume {
            id,
            gib: volume.gib,
            zone: zone.to_owned(),
            kind: volume.kind,
            iops: volume.performance.iops,
            throughput: volume.performance.throughput,
            base: volume.base,
            created: tx.now,
            attachment: Some(VolumeAttachment {
                instance,
                device: volume.device.clone(),
                delete_on_termination: volume.delete_on_termination,
                since: tx.now,
                detach: None,
            }),
            modification: None,
            client_token: None,
            doomed: false,
            tags: tags.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        for name in ["/dev/sdf", "/dev/sda1", "/dev/xvda", "/dev/xvdba"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "",
            "sdf",
            "/dev/sd",
            "/dev/nvme0n1",
            "/dev/sdabc",
            "/dev/sdf123",
            "/dev/sdF",
            "/dev/sd1",
            "/dev/sdf/..",
        ] {
            assert!(!is_device_name(name), "{name}");
        }
    }
}
