//! `cumulet volumes`: the disks, and what they hang on.

use ec2::shapes::volumes::Volume;

use crate::client::Client;
use crate::failure::Failure;
use crate::find::name_of;
use crate::output::{Cell, Format, Row, note};

/// Lists them.
pub(crate) async fn run(client: &Client, output: Format) -> Result<(), Failure> {
    let mut volumes = client.volumes().await?;
    volumes.sort_by_key(|volume| volume.create_time);
    output.list(&volumes.iter().map(row).collect::<Vec<_>>())?;
    if volumes.is_empty() {
        note("There are no volumes. Each instance brings its own: cumulet run IMAGE");
    }
    Ok(())
}

fn row(volume: &Volume) -> Row {
    let attachment = volume.attachment_set.first();
    vec![
        ("id", Cell::from(&*volume.volume_id)),
        ("name", Cell::from(name_of(&volume.tag_set))),
        ("state", Cell::word(&volume.status)),
        ("size_gib", Cell::Number(volume.size.into())),
        ("zone", Cell::from(&*volume.availability_zone)),
        ("instance", Cell::from(attachment.map(|attachment| attachment.instance_id.as_str()))),
        ("device", Cell::from(attachment.map(|attachment| attachment.device.as_str()))),
        ("created", Cell::Time(volume.create_time)),
    ]
}
