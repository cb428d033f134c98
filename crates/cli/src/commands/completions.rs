//! `cumulet completions`: a script that a shell reads.

use clap::CommandFactory;

use crate::failure::Failure;
use crate::output::raw;

const EXAMPLES: &str = "\
Examples:
  cumulet completions bash > ~/.local/share/bash-completion/completions/cumulet
  cumulet completions fish > ~/.config/fish/completions/cumulet.fish";

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The shell that is to complete
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = crate::arguments::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "cumulet", &mut script);
    Ok(raw(&script)?)
}
