//! How the process ends: a sentence for people, an [`Ending`] in the file that the launcher gave for it,
//! and an exit status.
//!
//! An end is written once. A panic anywhere ends the process too, and is written down like everything
//! else: half a monitor is worse than none.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};

use spec::control::{EndReason, Ending};
use spec::machine::Run;

/// Where the end is written, until it is.
struct Record {
    run: Run,
    file: Option<File>,
}

static RECORD: OnceLock<Mutex<Option<Record>>> = OnceLock::new();

/// From now on the end, a panic's included, goes to this file.
pub(crate) fn record_in(run: Run, file: Option<File>) {
    // A second call would be a mistake of ours, and would change nothing.
    let _ = RECORD.set(Mutex::new(Some(Record { run, file })));
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
        let what = panic.payload_as_str().unwrap_or("for no reason it could tell");
        let message = format!("The monitor panicked{}: {what}", place.unwrap_or_default());
        tell(EndReason::Failed, &message);
        std::process::exit(i32::from(EndReason::Failed.exit_status()));
    }));
}

/// Ends the process with a reason.
pub(crate) fn end(reason: EndReason, message: &str) -> ExitCode {
    tell(reason, message);
    ExitCode::from(reason.exit_status())
}

/// The end as it would be written now, and where to, for who cannot make it when it comes.
pub(crate) fn prepare(reason: EndReason, message: &str) -> io::Result<(Vec<u8>, Option<File>)> {
    let Some(record) = RECORD.get() else { return Ok((Vec::new(), None)) };
    let record = record.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Record { run, file: Some(file) }) = &*record else { return Ok((Vec::new(), None)) };
    let ending = Ending { run: *run, reason, message: message.to_owned() };
    Ok((serde_json::to_vec(&ending)?, Some(file.try_clone()?)))
}

/// Says a sentence on standard error, if that can be written: a full disk under a log must not end a machine.
pub(crate) fn say(message: &str) {
    let _ = writeln!(io::stderr(), "cumulet-vmm: {message}");
}

fn tell(reason: EndReason, message: &str) {
    say(message);
    let record = RECORD.get().and_then(|record| record.lock().unwrap_or_else(PoisonError::into_inner).take());
    let Some(Record { run, file: Some(file) }) = record else { return };
    let ending = Ending { run, reason, message: message.to_owned() };
    let written =
        serde_json::to_vec(&ending).map_err(Into::into).and_then(|json| file.write_all_at(&json, 0));
    if let Err(error) = written {
        say(&format!("Cannot write down why the machine ended: {error}"));
    }
}

/// An error and its causes as one sentence.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
