//! `cumulet status`: is there a cloud, who asks it, and what is in it?

use ec2::shapes::images::ImageState;
use ec2::shapes::instances::InstanceStateName;
use ec2::shapes::sts::GetCallerIdentityRequest;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Cell, Format, next};

/// Prints it, and what to do next.
pub(crate) async fn run(client: &Client, output: Format) -> Result<(), Failure> {
    let who = client.call(&GetCallerIdentityRequest {}).await?;
    let instances = client.instances().await?;
    let images = client.images().await?;
    let volumes = client.volumes().await?;
    let identity = client.identity();

    let in_state = |state| instances.iter().filter(|instance| instance.instance_state.name == state).count();
    let running = in_state(InstanceStateName::Running);
    let alive = instances.len() - in_state(InstanceStateName::Terminated);
    let available = images.iter().filter(|image| image.image_state == ImageState::Available);
    output.record(&vec![
        ("endpoint", Cell::from(&*identity.endpoint.to_string())),
        ("region", Cell::from(&*identity.region)),
        ("account", Cell::from(&*who.account)),
        ("identity", Cell::from(&*who.arn)),
        ("key", Cell::from(&*identity.access_key_id)),
        ("key_from", Cell::from(&*identity.source.to_string())),
        ("instances", Cell::count(alive)),
        ("running", Cell::count(running)),
        ("images", Cell::count(images.len())),
        ("volumes", Cell::count(volumes.len())),
    ])?;
    match (alive, available.map(|image| image.name.as_str()).next()) {
        (0, None) => next("cumulet image import FILE --name NAME"),
        (0, Some(image)) => next(&format!("cumulet run {image} --name first --wait")),
        _ => next("cumulet instances"),
    }
    Ok(())
}
