//! How far something long has come: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::output::note;

/// A step that knows how much of how much is done, in bytes.
pub(crate) struct Progress {
    display: Display,
    step: String,
    /// The last tenth that a line was written for.
    tenth: Option<u64>,
}

enum Display {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// Begins without anything to show.
    pub(crate) fn new() -> Self {
        let display = if stderr().is_terminal() {
            let bar = ProgressBar::no_length();
            let template =
                "{msg:16} [{bar:20}] {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {eta}";
            bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
            Display::Bar(bar)
        } else {
            Display::Lines
        };
        Self { display, step: String::new(), tenth: None }
    }

    /// Shows that `done` of `total` bytes of `step` are done.
    pub(crate) fn show(&mut self, step: &str, done: u64, total: u64) {
        let new_step = self.step != step;
        if new_step {
            step.clone_into(&mut self.step);
        }
        let done = done.min(total);
        match &self.display {
            Display::Bar(bar) => {
                if new_step {
                    bar.reset();
                    bar.set_message(self.step.clone());
                }
                bar.set_length(total);
                bar.set_position(done);
            }
            Display::Lines => {
                let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(10);
                if new_step || self.tenth.is_none_or(|shown| tenth > shown) {
                    self.tenth = Some(tenth);
                    note(&format!("{step}: {} % of {}", tenth * 10, HumanBytes(total)));
                }
            }
        }
    }
}

impl Drop for Progress {
    /// Leaves a clean line to what comes after.
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

/// Says that something is waited for, with a spinner on a terminal, until it is dropped.
pub(crate) struct Waiting(Option<ProgressBar>);

impl Waiting {
    /// Begins to wait.
    pub(crate) fn for_what(text: &str) -> Self {
        if !stderr().is_terminal() {
            note(text);
            return Self(None);
        }
        let style =
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is well-formed");
        let spinner = ProgressBar::new_spinner().with_style(style).with_message(text.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self(Some(spinner))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}
