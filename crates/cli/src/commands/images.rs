//! `cumulet images`: what can be launched.

use ec2::shapes::images::Image;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Cell, Format, Row, next, note};

/// Lists them.
pub(crate) async fn run(client: &Client, output: Format) -> Result<(), Failure> {
    let mut images = client.images().await?;
    images.sort_by(|one, other| one.name.cmp(&other.name));
    output.list(&images.iter().map(row).collect::<Vec<_>>())?;
    if images.is_empty() {
        note("There are no images.");
        next("cumulet image import FILE --name NAME");
    }
    Ok(())
}

fn row(image: &Image) -> Row {
    let root =
        image.block_device_mapping.iter().find(|mapping| mapping.device_name == image.root_device_name);
    let size = root.and_then(|mapping| mapping.ebs.as_ref()).map(|ebs| Cell::Number(ebs.volume_size.into()));
    vec![
        ("id", Cell::from(&*image.image_id)),
        ("name", Cell::from(&*image.name)),
        ("state", Cell::word(&image.image_state)),
        ("architecture", Cell::from(&*image.architecture)),
        ("size_gib", size.unwrap_or(Cell::Missing)),
        ("created", Cell::Time(image.creation_date)),
        ("description", Cell::from(image.description.as_deref())),
    ]
}
