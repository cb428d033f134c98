//! Being told to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Remedy;

/// Signals cannot be waited for.
#[derive(Debug, thiserror::Error)]
#[error("Could not prepare for being interrupted")]
pub(crate) struct SignalError(#[from] io::Error);

impl Remedy for SignalError {}

/// Returns when the user or the system wants this program to end: Ctrl-C, a closed terminal, `kill`.
pub(crate) async fn interrupted() -> Result<(), SignalError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
