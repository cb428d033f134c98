//! `cumulet start`, `stop` and `reboot`: an instance's power.

use ec2::NonEmpty;
use ec2::shapes::instances::{
    InstanceStateChange, RebootInstancesRequest, StartInstancesRequest, StopInstancesRequest,
};

use crate::client::Client;
use crate::failure::Failure;
use crate::find::FindError;
use crate::output::{Cell, Format, next, note};

const EXAMPLES: &str = "\
Examples:
  cumulet stop web
  cumulet stop --hibernate batch
  cumulet start web batch
  cumulet reboot i-0123456789abcdef0";

/// Which instances.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Ids or names
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
}

/// Which instances to stop, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArguments {
    /// Keep what is in their memory for the next start (instances launched with --hibernation)
    #[arg(long)]
    hibernate: bool,
    #[command(flatten)]
    which: Arguments,
}

/// Starts them, all or none: disks and private addresses are as they were, the public addresses are new.
pub(crate) async fn start(arguments: &Arguments, client: &Client, output: Format) -> Result<(), Failure> {
    let instance_id = ids(&arguments.instances, client).await?;
    list(&client.call(&StartInstancesRequest { instance_id }).await?.instances_set, output)?;
    next(&format!("cumulet ssh {}", arguments.instances[0]));
    Ok(())
}

/// Stops them, all or none: by the power button, and by force where that does not help.
pub(crate) async fn stop(arguments: &StopArguments, client: &Client, output: Format) -> Result<(), Failure> {
    let StopArguments { hibernate, which: Arguments { instances } } = arguments;
    let instance_id = ids(instances, client).await?;
    let hibernate = hibernate.then_some(true);
    let request = StopInstancesRequest { instance_id, force: None, hibernate };
    list(&client.call(&request).await?.instances_set, output)?;
    next(&format!("cumulet start {}", instances.join(" ")));
    Ok(())
}

/// Reboots them, all or none.
pub(crate) async fn reboot(arguments: &Arguments, client: &Client) -> Result<(), Failure> {
    let instance_id = ids(&arguments.instances, client).await?;
    client.call(&RebootInstancesRequest { instance_id }).await?;
    note("Asked; addresses and disks stay as they are");
    next(&format!("cumulet console {}", arguments.instances[0]));
    Ok(())
}

/// The ids of instances, each named by its id or name.
pub(super) async fn ids(instances: &[String], client: &Client) -> Result<NonEmpty<String>, FindError> {
    let mut ids = Vec::new();
    for named in instances {
        ids.push(client.instance(named).await?.instance_id);
    }
    Ok(NonEmpty::try_from(ids).expect("the command line demands at least one"))
}

/// The states that instances are in now, after the cloud was asked to change them.
pub(super) fn list(changes: &[InstanceStateChange], output: Format) -> Result<(), Failure> {
    let row = |change: &InstanceStateChange| {
        vec![("id", Cell::from(&*change.instance_id)), ("state", Cell::word(&change.current_state.name))]
    };
    output.list(&changes.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}
