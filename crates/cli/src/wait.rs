//! Waiting until an instance runs.

use std::time::{Duration, Instant};

use ec2::shapes::instances::{Instance, InstanceStateName};

use crate::client::Client;
use crate::failure::Remedy;
use crate::find::FindError;
use crate::output::word;
use crate::progress::Waiting;

/// How often to ask. The cloud is on this machine, so asking is cheap.
const PERIOD: Duration = Duration::from_millis(500);

/// Why an instance does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// The cloud could not be asked.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It has stopped or ended, or is about to.
    #[error("{id} is {}{}", word(state), reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    NotRunning { id: String, state: InstanceStateName, reason: Option<String> },
    /// It is still being started.
    #[error("{id} did not begin to run within {} seconds", patience.as_secs())]
    TooLong { id: String, patience: Duration },
}

impl Remedy for WaitError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Find(error) => error.hint(),
            Self::NotRunning {
                id, state: InstanceStateName::Stopped | InstanceStateName::Stopping, ..
            } => Some(format!("cumulet start {id}")),
            Self::NotRunning { .. } => Some("launch another: cumulet run IMAGE".to_owned()),
            Self::TooLong { .. } => {
                Some("see whether the host is busy; the daemon's log: journalctl -u cumuletd".to_owned())
            }
        }
    }
}

/// The instance as it is when it runs, which may be now.
pub(crate) async fn until_running(
    client: &Client,
    mut instance: Instance,
    patience: Duration,
) -> Result<Instance, WaitError> {
    let deadline = Instant::now() + patience;
    let mut waiting = None;
    loop {
        let id = instance.instance_id.clone();
        match instance.instance_state.name {
            InstanceStateName::Running => return Ok(instance),
            InstanceStateName::Pending if Instant::now() < deadline => {}
            InstanceStateName::Pending => return Err(WaitError::TooLong { id, patience }),
            state => {
                let reason = instance.state_reason.map(|reason| reason.message);
                return Err(WaitError::NotRunning { id, state, reason });
            }
        }
        waiting.get_or_insert_with(|| Waiting::for_what(&format!("Waiting for {id} to run")));
        tokio::time::sleep(PERIOD).await;
        instance = client.instance(&id).await?;
    }
}
