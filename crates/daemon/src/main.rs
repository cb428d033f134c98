//! `cumuletd`: the command line. What the daemon does is in [`cumuletd::daemon`].
//!
//! Under two other names it is a process without rights that does one thing for the daemon: [`guests::process`] and
//! [`reader`]. They are this program so that there is one to install, and so that both sides are always of one build.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use cumuletd::config::Config;
use cumuletd::daemon::{self, DaemonError};
use cumuletd::guests;
use host::linux::services;
use host::linux::storage::reader;
use tracing_subscriber::EnvFilter;

/// A cloud on one machine: boots microVMs and is driven through the EC2 API.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Options {
    /// The configuration file [default: /etc/cumulet/cumuletd.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Keep everything in this folder instead of where the configuration says
    #[arg(long, global = true, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Try the API without root and KVM: instances are only pretended, and forgotten at the end
    #[arg(long)]
    simulate: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Take everything away from this machine that cumuletd made: machines, networks, rules
    Teardown {
        /// Also delete all images, volumes, keys and the store
        #[arg(long)]
        purge: bool,
    },
    /// Read the configuration and say whether it is valid
    CheckConfig,
}

const EXAMPLES: &str = "Examples:
  cumuletd --simulate                     try the API, no root needed
  sudo cumuletd                           run the cloud
  sudo cumuletd teardown                  stop every machine and take the networks away; disks stay
  sudo cumuletd teardown --purge          also delete images, volumes, keys and the store

Set CUMULET_LOG=debug to see every step.";

fn main() -> ExitCode {
    // The daemon starts its own program again under these names, for work that it leaves to processes without rights.
    match std::env::args().next().as_deref() {
        Some(reader::NAME) => return reader::main(),
        Some(services::NAME) => return guests::process::main(),
        _ => {}
    }
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("CUMULET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cumuletd: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { options, command }: Cli) -> Result<(), DaemonError> {
    let Options { config, listen, state, simulate } = options;
    let mut config = Config::load(config.as_deref())?;
    config.listen = listen.unwrap_or(config.listen);
    if let Some(state) = &state {
        config.state = std::path::absolute(state).unwrap_or_else(|_| state.clone());
    }
    match command {
        Some(Command::Teardown { purge }) => daemon::teardown(&config, purge),
        Some(Command::CheckConfig) => {
            println!("The configuration is valid.");
            Ok(())
        }
        None if simulate => daemon::simulate(config, state.is_some()),
        None => daemon::serve(&config),
    }
}

/// The error and its causes on one line, each after a colon.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}
