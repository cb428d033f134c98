//! `cumulet console`: an instance's serial console.
//!
//! On a terminal every key goes to the guest but Ctrl-], which leaves. Elsewhere stdin is sent as it is, to its end, and
//! the console is printed until the instance or the user ends it.

use std::future::pending;
use std::io::{self, IsTerminal, Stdin, stdin};

use ec2::shapes::instances::GetConsoleOutputRequest;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::client::Client;
use crate::failure::{Failure, Remedy};
use crate::output::{OutputError, note, raw};
use crate::signals::interrupted;
use crate::tunnel::Tunnel;

/// Ctrl-], which leaves, as in telnet.
const LEAVE: u8 = 0x1d;

const EXAMPLES: &str = "\
Examples:
  cumulet console web               look and type; Ctrl-] leaves
  cumulet console web --log         what it said so far
  cumulet console web < /dev/null   watch only; Ctrl-C ends";

/// Of which instance.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The instance's id or name
    instance: String,
    /// Print what the console said so far, and end
    #[arg(long)]
    log: bool,
}

/// Why the console cannot be shown.
#[derive(Debug, thiserror::Error)]
enum ConsoleError {
    /// The terminal does not do what it must.
    #[error("Could not make the terminal pass every key on")]
    Terminal(#[source] io::Error),
    /// The daemon, or the way to it, is gone.
    #[error("The connection to the console broke off")]
    BrokeOff(#[source] io::Error),
}

impl Remedy for ConsoleError {}

/// Shows it.
pub(crate) async fn run(arguments: &Arguments, client: &Client) -> Result<(), Failure> {
    let instance_id = client.instance(&arguments.instance).await?.instance_id;
    if arguments.log {
        return print_log(client, instance_id).await;
    }
    let tunnel = client.console(&instance_id).await?;
    if stdin().is_terminal() {
        note(&format!("This is the console of {instance_id}. Ctrl-] leaves; Enter may bring a prompt."));
    }
    match look(tunnel).await? {
        End::Left => {}
        End::Closed => note(&format!("The console of {instance_id} was closed at the other end.")),
    }
    Ok(())
}

async fn print_log(client: &Client, instance_id: String) -> Result<(), Failure> {
    let said = client.call(&GetConsoleOutputRequest { instance_id }).await?;
    if said.output.0.is_empty() {
        note(&format!("{} has said nothing yet.", said.instance_id));
    }
    Ok(raw(&said.output.0)?)
}

/// Who ended it.
enum End {
    Left,
    Closed,
}

async fn look(Tunnel { mut stream, early }: Tunnel) -> Result<End, Failure> {
    let terminal = RawTerminal::of(stdin()).map_err(ConsoleError::Terminal)?;
    let (from_guest, to_guest) = stream.split();
    tokio::select! {
        shown = show(&early, from_guest) => shown.map(|()| End::Closed),
        () = pass_keys(to_guest, terminal.is_some()) => Ok(End::Left),
        signalled = interrupted() => Ok(signalled.map(|()| End::Left)?),
    }
}

/// Prints what the guest says, until there is no more.
async fn show(early: &[u8], mut from_guest: ReadHalf<'_>) -> Result<(), Failure> {
    let mut stdout = tokio::io::stdout();
    let mut buffer = early.to_vec();
    loop {
        stdout.write_all(&buffer).await.map_err(OutputError::new)?;
        stdout.flush().await.map_err(OutputError::new)?;
        buffer.resize(16 * 1024, 0);
        let length = from_guest.read(&mut buffer).await.map_err(ConsoleError::BrokeOff)?;
        if length == 0 {
            return Ok(());
        }
        buffer.truncate(length);
    }
}

/// Sends what is typed, until the user leaves. That stdin ends or the guest is gone is no reason to: the other direction
/// goes on, or tells why not.
async fn pass_keys(mut to_guest: WriteHalf<'_>, on_terminal: bool) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stdin.read(&mut buffer).await {
        let keys = &buffer[..length];
        let leaving = keys.iter().position(|key| on_terminal && *key == LEAVE);
        if to_guest.write_all(&keys[..leaving.unwrap_or(length)]).await.is_err() {
            break;
        }
        if leaving.is_some() {
            return;
        }
    }
    pending().await
}

/// A terminal that passes every key on as it is typed, and shows bytes as they are, until this is dropped.
struct RawTerminal {
    stdin: Stdin,
    before: Termios,
}

impl RawTerminal {
    /// Changes the terminal that stdin is, if it is one.
    fn of(stdin: Stdin) -> io::Result<Option<Self>> {
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(Some(Self { stdin, before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(&self.stdin, SetArg::TCSADRAIN, &self.before);
        note("");
    }
}
