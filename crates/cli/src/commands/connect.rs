//! `cumulet connect`: stdin and stdout as a connection to a port of a guest. What ssh is given as its proxy.
//!
//! ```text
//! ssh ── stdin ──▶ one thread ──▶ socket to the daemon
//! ssh ◀─ stdout ── another ◀───── the same socket
//! ```
//!
//! The end of one direction is passed on and leaves the other open. It is over when both have ended, or when nobody
//! reads stdout any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

use crate::client::Client;
use crate::failure::{Failure, Remedy};
use crate::find::is_id;
use crate::tunnel::Tunnel;

/// Bytes that are carried at a time.
const BUFFER: usize = 64 * 1024;

/// To what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The instance's id or name
    instance: String,
    /// Its port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How long the guest may take to listen, if it is booting
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Why the connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    /// Stdin, stdout or the socket cannot be used.
    #[error("Could not prepare the connection")]
    Prepare(#[source] io::Error),
    /// The daemon, or the way to it, is gone.
    #[error("The connection to the instance broke off")]
    BrokeOff(#[source] io::Error),
}

impl Remedy for CarryError {}

/// Connects, and carries until both sides have ended.
pub(crate) async fn run(arguments: &Arguments, client: &Client) -> Result<(), Failure> {
    let Arguments { instance, port, wait } = arguments;
    // An id needs no look-up, which ssh's proxy is spared so.
    let id = if is_id(instance, "i") { instance } else { &client.instance(instance).await?.instance_id };
    let tunnel = client.tunnel_when_ready(id, *port, Duration::from_secs(*wait)).await?;
    Ok(carry(tunnel)?)
}

/// Which direction has ended, and how.
enum Ended {
    ToGuest,
    FromGuest(io::Result<()>),
}

fn carry(Tunnel { stream, early }: Tunnel) -> Result<(), CarryError> {
    let prepare = || -> io::Result<(TcpStream, TcpStream, File, File)> {
        let socket = stream.into_std()?;
        socket.set_nonblocking(false)?;
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok((socket.try_clone()?, socket, stdin.into(), stdout.into()))
    };
    let (to_guest, from_guest, stdin, mut stdout) = prepare().map_err(CarryError::Prepare)?;
    let (ended, wait) = mpsc::channel();
    let also_ended = ended.clone();
    std::thread::spawn(move || {
        // If the guest takes no more, the other direction tells why.
        let _ = copy(&stdin, &to_guest);
        let _ = to_guest.shutdown(Shutdown::Write);
        let _ = ended.send(Ended::ToGuest);
    });
    std::thread::spawn(move || {
        let copied = stdout.write_all(&early).and_then(|()| copy(&from_guest, &stdout));
        drop(stdout);
        let closed = copied.and_then(|()| close_stdout());
        let _ = also_ended.send(Ended::FromGuest(closed));
    });
    let mut open = 2;
    while open > 0
        && let Ok(end) = wait.recv()
    {
        open -= 1;
        match end {
            Ended::FromGuest(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Ended::FromGuest(Err(error)) => return Err(CarryError::BrokeOff(error)),
            Ended::FromGuest(Ok(())) | Ended::ToGuest => {}
        }
    }
    Ok(())
}

/// Copies to the end, and passes on at once whatever there is. The standard library's copy would have the kernel move
/// bytes from the socket into a pipe (`splice`), and the kernel waits for more than have come: a peer that is to speak
/// next would wait for ever.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Passes the end on to whoever reads stdout, though this process goes on.
fn close_stdout() -> io::Result<()> {
    let nothing = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(nothing)?)
}
