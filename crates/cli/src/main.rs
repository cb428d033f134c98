//! cumulet: the user's tool.
//!
//! It speaks the EC2 API like any other client, and beside it the few things that EC2 has no action for: a tunnel to
//! a guest's port, a guest's console, the upload of an image. All of it goes through the API's own port, signed with
//! the same key, so whoever reaches the API reaches the guests.
//!
//! ```text
//! identity   where the cloud is, and with which key to ask
//! client     signed requests, upgrades and uploads over HTTP
//! find       from what the user typed to what is meant
//! commands/  one file for each thing the user can ask for
//! output     data to stdout; all else to stderr
//! ```
//!
//! Exit status: 0 done, 1 refused or failed, 2 not understood; `cumulet ssh` ends as ssh does.

mod arguments;
mod client;
mod commands;
mod endpoint;
mod failure;
mod find;
mod folders;
mod group;
mod identity;
mod key;
mod output;
mod progress;
mod shell;
mod signals;
mod tunnel;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("cumulet: Could not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(arguments));
    // A read of the terminal may still be waiting for a key; nobody wants it any more.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
