//! The host's own resolver: whom guests' questions are handed on to.
//!
//! Each question gets a socket of its own, connected to the one server it is for, so that nobody else's packets are read
//! and the kernel chooses a new port each time (RFC 5452, 9.2). It is asked as the guest asked: by UDP or by TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guest_services::dns::{Transport, framed, relay};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How often a question is asked, and how long each time. Together less than the five seconds after which guests ask again.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_millis(1500);
/// Room for a datagram, more than any guest takes.
const DATAGRAM: usize = 4096;

/// The host's resolvers, as the daemon said them last.
#[derive(Default)]
pub(super) struct Upstream {
    servers: Mutex<Arc<[SocketAddr]>>,
}

impl Upstream {
    /// What the host's resolvers say, as it may go back to the guest; nothing where none of them answers.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let servers = Arc::clone(&self.known());
        for server in servers.iter().cycle().take(TRIES) {
            let asking = async {
                match transport {
                    Transport::Udp => ask_by_datagram(question, *server).await,
                    Transport::Tcp => ask_by_stream(question, *server).await,
                }
            };
            if let Ok(Ok(Some(reply))) = timeout(PATIENCE, asking).await {
                return Some(reply);
            }
        }
        None
    }

    /// Asks these from now on.
    pub(super) fn set(&self, servers: Vec<SocketAddr>) {
        *self.known() = servers.into();
    }

    fn known(&self) -> MutexGuard<'_, Arc<[SocketAddr]>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask_by_datagram(question: &[u8], server: SocketAddr) -> io::Result<Option<Vec<u8>>> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Not bound to a port: connecting does that, so there is one thing less that this process need be allowed.
    let socket = UdpSocket::from_std(socket(family, SockType::Datagram, flags, None)?.into())?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let reply = relay(question, buffer.get(..length).unwrap_or_default(), Transport::Udp);
        if reply.is_some() {
            return Ok(reply);
        }
    }
}

async fn ask_by_stream(question: &[u8], server: SocketAddr) -> io::Result<Option<Vec<u8>>> {
    let mut stream = TcpStream::connect(server).await?;
    let Some(message) = framed(question) else { return Ok(None) };
    stream.write_all(&message).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    Ok(relay(question, &reply, Transport::Tcp))
}
