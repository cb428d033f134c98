//! `cumulet instances`: what runs, and what lately ran.

use ec2::shapes::instances::{Instance, InstanceStateName};

use crate::client::Client;
use crate::failure::Failure;
use crate::find::name_of;
use crate::output::{Cell, Format, Row, next, note};

const EXAMPLES: &str = "\
Examples:
  cumulet instances
  cumulet ls --all
  cumulet instances --output json | jq -r '.[] | select(.state == \"running\") | .public_ip'";

/// Which instances.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Also those that have ended; the cloud remembers them for an hour
    #[arg(long, short)]
    all: bool,
}

/// Lists them.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: Format) -> Result<(), Failure> {
    let mut instances = client.instances().await?;
    let ended = |instance: &Instance| instance.instance_state.name == InstanceStateName::Terminated;
    if !arguments.all {
        instances.retain(|instance| !ended(instance));
    }
    instances.sort_by_key(|instance| (ended(instance), instance.launch_time));
    output.list(&instances.iter().map(row).collect::<Vec<_>>())?;
    if instances.is_empty() {
        note("There are no instances.");
        next("cumulet run IMAGE, with one of: cumulet images");
    }
    Ok(())
}

/// An instance in the list.
pub(crate) fn row(instance: &Instance) -> Row {
    vec![
        ("id", Cell::from(&*instance.instance_id)),
        ("name", Cell::from(name_of(&instance.tag_set))),
        ("state", Cell::word(&instance.instance_state.name)),
        ("type", Cell::from(&*instance.instance_type)),
        ("public_ip", Cell::from(instance.ip_address.as_deref())),
        ("private_ip", Cell::from(instance.private_ip_address.as_deref())),
        ("launched", Cell::Time(instance.launch_time)),
        ("image", Cell::from(&*instance.image_id)),
        ("key", Cell::from(instance.key_name.as_deref())),
    ]
}
