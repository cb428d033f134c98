//! The command line.
//!
//! What each command takes stands with the command, in `commands/`; here is the table of contents that `cumulet --help`
//! shows.

use clap::{Parser, Subcommand};

use crate::commands::{
    completions, connect, console, env, forward, image_import, image_rm, instances, power, rm, run, ssh,
};
use crate::identity::Overrides;
use crate::output::Format;

/// The cumulet cloud from the command line
///
/// Launch instances, log in to them, look at their consoles and pages.
/// For everything else there is aws: see cumulet env.
#[derive(Debug, Parser)]
#[command(name = "cumulet", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// How to write data to stdout
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        value_enum,
        hide_possible_values = true
    )]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
A first hour:
  cumulet image import tiny.qcow2 --name tiny         register an image
  cumulet run tiny --name web --allow 22,80 --wait    launch an instance
  cumulet ssh web                                     log in
  cumulet forward web 8080:80                         its page at http://127.0.0.1:8080/
  cumulet rm web                                      end it
  eval \"$(cumulet env)\"; aws ec2 describe-instances   and all the rest";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the variables by which aws, boto3 and the like reach this cloud
    Env(env::Arguments),
    /// Say whether the cloud answers, who asks it, and what is there
    Status,
    /// List the instances
    #[command(visible_alias = "ls")]
    Instances(instances::Arguments),
    /// List the images
    Images,
    /// List the volumes
    Volumes,
    /// List the instance types that are offered
    Types,
    /// Launch an instance of an image
    Run(run::Arguments),
    /// Start instances that were stopped
    Start(power::Arguments),
    /// Stop instances; disks and private addresses stay
    Stop(power::StopArguments),
    /// Reboot instances
    Reboot(power::Arguments),
    /// End instances for good
    Rm(rm::Arguments),
    /// Register and remove images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Log in to an instance, or run a command on it
    Ssh(ssh::Arguments),
    /// Look at and type into an instance's serial console
    Console(console::Arguments),
    /// Make ports of an instance reachable on this machine
    Forward(forward::Arguments),
    /// Carry stdin and stdout to a port of an instance: what ssh is given as its proxy
    #[command(hide = true)]
    Connect(connect::Arguments),
    /// Print what makes a shell complete cumulet's commands
    Completions(completions::Arguments),
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Register a disk, raw or qcow2, as an image
    Import(image_import::Arguments),
    /// Remove images; instances that were launched from them stay
    Rm(image_rm::Arguments),
}
