//! `cumulet rm`: ends instances.

use ec2::NonEmpty;
use ec2::shapes::instances::TerminateInstancesRequest;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Cell, Format, note};

const EXAMPLES: &str = "\
Examples:
  cumulet rm web
  cumulet rm i-0123456789abcdef0 i-0fedcba9876543210";

/// Which instances.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Ids or names; their disks end with them, unless they were launched to keep them
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
}

/// Ends them, all or none.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: Format) -> Result<(), Failure> {
    let mut ids = Vec::new();
    for named in &arguments.instances {
        ids.push(client.instance(named).await?.instance_id);
    }
    let instance_id = NonEmpty::try_from(ids).expect("the command line demands at least one");
    let changes = client.call(&TerminateInstancesRequest { instance_id }).await?.instances_set;
    let row = |change: &ec2::shapes::instances::InstanceStateChange| {
        vec![("id", Cell::from(&*change.instance_id)), ("state", Cell::word(&change.current_state.name))]
    };
    output.list(&changes.iter().map(row).collect::<Vec<_>>())?;
    note("What an instance was stays visible for an hour: cumulet instances --all");
    Ok(())
}
