//! One file for each thing the user can ask for.

pub(crate) mod completions;
pub(crate) mod connect;
pub(crate) mod console;
pub(crate) mod env;
pub(crate) mod forward;
pub(crate) mod image_import;
pub(crate) mod image_rm;
pub(crate) mod images;
pub(crate) mod instances;
pub(crate) mod power;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod ssh;
pub(crate) mod status;
pub(crate) mod types;
pub(crate) mod volumes;

use crate::arguments::{Arguments, Command, ImageCommand};
use crate::client::Client;
use crate::failure::Failure;
use crate::identity::{Identity, variable};

/// Does what the command line says.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { overrides, output, command } = arguments;
    match command {
        Command::Completions(arguments) => return completions::run(&arguments),
        Command::Env(arguments) => return env::run(&arguments, &overrides, output).await,
        _ => {}
    }
    let client = &Client::new(Identity::find(&overrides, &variable)?);
    match command {
        Command::Status => status::run(client, output).await,
        Command::Instances(arguments) => instances::run(&arguments, client, output).await,
        Command::Images => images::run(client, output).await,
        Command::Volumes => volumes::run(client, output).await,
        Command::Types => types::run(client, output).await,
        Command::Run(arguments) => run::run(arguments, client, output).await,
        Command::Start(arguments) => power::start(&arguments, client, output).await,
        Command::Stop(arguments) => power::stop(&arguments, client, output).await,
        Command::Reboot(arguments) => power::reboot(&arguments, client).await,
        Command::Rm(arguments) => rm::run(&arguments, client, output).await,
        Command::Image(ImageCommand::Import(arguments)) => {
            image_import::run(&arguments, client, output).await
        }
        Command::Image(ImageCommand::Rm(arguments)) => image_rm::run(&arguments, client).await,
        Command::Ssh(arguments) => ssh::run(&arguments, client, &overrides).await,
        Command::Console(arguments) => console::run(&arguments, client).await,
        Command::Forward(arguments) => forward::run(&arguments, client, output).await,
        Command::Connect(arguments) => connect::run(&arguments, client).await,
        Command::Completions(_) | Command::Env(_) => unreachable!("done above, without a cloud"),
    }
}
