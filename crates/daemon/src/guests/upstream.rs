//! The host's own resolver: whom guests' questions are handed on to.
//!
//! Each question gets a socket of its own, connected to the one server it is for, so that nobody else's packets are read
//! and the kernel chooses a new port each time (RFC 5452, 9.2). It is asked as the guest asked: by UDP or by TCP.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guest_services::dns::{Transport, framed, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

/// Where the host says who its resolvers are (resolv.conf(5)).
const FILE: &str = "/etc/resolv.conf";
/// The most bytes of it that are read.
const LONGEST_FILE: u64 = 64 * 1024;
/// How long what it said is believed: networks come and go.
const FRESH: Duration = Duration::from_secs(5);
/// The most servers that count (resolv.conf(5), `MAXNS`).
const MOST_SERVERS: usize = 3;
const PORT: u16 = 53;
/// How often a question is asked, and how long each time. Together less than the five seconds after which guests ask again.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_millis(1500);
/// Room for a datagram, more than any guest takes.
const DATAGRAM: usize = 4096;

/// The host's resolvers, looked up when they are needed.
#[derive(Default)]
pub(super) struct Upstream {
    known: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

impl Upstream {
    /// What the host's resolvers say, as it may go back to the guest; nothing where none of them answers.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let servers = self.servers().await;
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

    async fn servers(&self) -> Arc<[SocketAddr]> {
        if let Some((since, servers)) = &*self.known()
            && since.elapsed() < FRESH
        {
            return Arc::clone(servers);
        }
        let text = spawn_blocking(read_file).await.map_err(io::Error::other).flatten();
        let servers: Arc<[SocketAddr]> = parse(&text.unwrap_or_default()).into();
        *self.known() = Some((Instant::now(), Arc::clone(&servers)));
        servers
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<[SocketAddr]>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_file() -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(FILE)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The servers that a resolv.conf(5) names; this machine itself where it names none.
fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse().ok().map(|address: IpAddr| SocketAddr::new(address, PORT))
    };
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(server).take(MOST_SERVERS).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

async fn ask_by_datagram(question: &[u8], server: SocketAddr) -> io::Result<Option<Vec<u8>>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver 10.0.0.53\n  nameserver\t::1 # here\n\
                    nameserver fe80::1%eth0\nnameserver\nnameservers 9.9.9.9\nnameserver 10.0.0.54\nnameserver 10.0.0.55";
        let addresses: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.53:53", "[::1]:53", "10.0.0.54:53"]);
        assert_eq!(parse("options edns0"), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }
}
