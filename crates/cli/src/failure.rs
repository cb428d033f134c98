//! How a command fails: one sentence, its causes, and a remedy.

use std::error::Error;
use std::process::ExitCode;

use crate::output::{OutputError, note};

/// An error that a user sees.
pub(crate) trait Remedy: Error {
    /// What the user can do about it: a command, or half a sentence.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Why a command ended without doing what it was asked. Made of any [`Remedy`] by `?`.
#[derive(Debug)]
pub(crate) struct Failure(Box<dyn Remedy>);

impl<E: Remedy + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl Failure {
    /// Tells the user, and says how to exit.
    pub(crate) fn report(&self) -> ExitCode {
        let error: &dyn Error = &*self.0;
        // Whoever reads our output has seen enough, as in `cumulet ls | head -1`: that is no failure.
        if error.downcast_ref::<OutputError>().is_some_and(OutputError::is_closed) {
            return ExitCode::SUCCESS;
        }
        report(&*self.0);
        ExitCode::FAILURE
    }
}

/// `cumulet: Sentence: cause: its cause`, and below it the remedy.
pub(crate) fn report(error: &dyn Remedy) {
    note(&format!("cumulet: {}", chain(error)));
    if let Some(hint) = error.hint() {
        note(&format!("hint: {hint}"));
    }
}

/// The error and its causes on one line, each after a colon.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
