//! `cumulet rm`: ends instances.

use ec2::shapes::instances::TerminateInstancesRequest;

use super::power;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Format, note};

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
    let instance_id = power::ids(&arguments.instances, client).await?;
    power::list(&client.call(&TerminateInstancesRequest { instance_id }).await?.instances_set, output)?;
    note("What an instance was stays visible for an hour: cumulet instances --all");
    Ok(())
}
