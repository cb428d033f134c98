//! Images: announced before their disk is taken in, so that a host never holds a disk nobody knows of.

use spec::ids::ImageId;
use spec::storage::ImageFacts;

use crate::model::*;
use crate::refusal::{Kind, Reason, Refusal};
use crate::rules::tags::check_tags;
use crate::tx::Tx;

/// An image that is about to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewImage {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// Its tags.
    pub tags: Tags,
}

/// The usual name of the root device (AWS, *Device names for volumes*).
pub const ROOT_DEVICE: &str = "/dev/xvda";

/// Announces an image: it is `pending` until [`finish_import`].
pub fn begin_import(tx: &mut Tx<'_>, new: NewImage) -> Result<ImageId, Refusal> {
    check_name(&new.name)?;
    check_tags(&new.tags)?;
    if let Some(other) = tx.world().images.values().find(|image| !image.doomed && image.name == new.name) {
        let text = format!("AMI name {} is already in use by AMI {}", new.name, other.id);
        return Err(Refusal::new(Reason::Duplicate(Kind::Image), text));
    }
    let id = ImageId::from_random(tx.random());
    tx.put(Image {
        id,
        name: new.name,
        description: new.description,
        architecture: tx.settings().architecture,
        bytes: 0,
        root_device: ROOT_DEVICE.into(),
        created: tx.now,
        available: false,
        doomed: false,
        tags: new.tags,
    });
    Ok(id)
}

/// Makes an image available, with what the host learned of its disk.
pub fn finish_import(tx: &mut Tx<'_>, id: ImageId, facts: &ImageFacts) -> Result<(), Refusal> {
    let image = tx.require::<Image>(id, Kind::Image, "image ID")?;
    let (architecture, bytes) = (facts.architecture, facts.bytes);
    tx.put(Image { architecture, bytes, available: true, ..(*image).clone() });
    Ok(())
}

/// Gives imports up that cannot be under way any more: those of an earlier life of the daemon.
pub fn abandon_imports(tx: &mut Tx<'_>) {
    let pending: Vec<ImageId> =
        tx.world().images.values().filter(|row| !row.available).map(|row| row.id).collect();
    for id in pending {
        abandon_import(tx, id);
    }
}

/// Gives one import up.
pub fn abandon_import(tx: &mut Tx<'_>, id: ImageId) {
    if let Some(image) = tx.get::<Image>(id).filter(|image| !image.doomed) {
        tx.put(Image { doomed: true, ..(*image).clone() });
    }
}

/// Deregisters an image. Volumes that began as it stay whole; its disk goes when the last of them has gone.
pub fn deregister(tx: &mut Tx<'_>, id: ImageId) -> Result<(), Refusal> {
    let image = tx.get::<Image>(id).filter(|image| !image.doomed).ok_or_else(|| {
        Refusal::new(Reason::NotFound(Kind::Image), format!("The image id '[{id}]' does not exist"))
    })?;
    tx.put(Image { doomed: true, ..(*image).clone() });
    Ok(())
}

/// 3 to 128 letters, digits, spaces and `()[]./-'@_` (AWS API reference, *RegisterImage*, `Name`).
fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ()[]./-'@_".contains(c);
    if (3..=128).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let text = "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '[', ']', \
                '.', ' ', '/', '-', ''', '@' and '_'";
    Err(Refusal::new(Reason::InvalidValue, text))
}
