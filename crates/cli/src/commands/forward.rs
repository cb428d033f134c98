//! `cumulet forward`: ports of an instance, reachable on this machine.
//!
//! Each connection gets a tunnel of its own, so one that is slow holds up no other. A tunnel that cannot be opened ends
//! its connection and is told once; the port goes on listening, so an instance or a daemon that comes back is found
//! again.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::failure::{Failure, Remedy, report};
use crate::group;
use crate::output::{Cell, Format, data, note};
use crate::signals::interrupted;
use crate::tunnel::Tunnel;
use crate::wait::until_running;

/// Connections at a time, over all ports; further ones wait to be accepted. Each takes two descriptors, of which a
/// process usually has 1024.
const CONNECTIONS: usize = 256;
/// Bytes that a connection may have under way in each direction.
const BUFFER: usize = 64 * 1024;
/// How long the same complaint is not told again.
const QUIET: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  cumulet forward web 8080:80                 http://127.0.0.1:8080/ is the instance's page
  cumulet forward db 5432:5432 8080:80        two ports
  cumulet forward web 0:80                    any free port
  cumulet forward web 0.0.0.0:8080:80         for other machines too";

/// Which ports of which instance.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The instance's id or name
    instance: String,
    /// The port here, and the port there
    #[arg(required = true, value_name = "[BIND:]HERE:THERE")]
    ports: Vec<Forwarding>,
    /// How long to wait for an instance that is being started
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
}

/// One port here that leads to one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forwarding {
    here: SocketAddr,
    there: u16,
}

/// A text that does not say what leads where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form 8080:80 or 0.0.0.0:8080:80")]
struct NotAForwarding;

impl FromStr for Forwarding {
    type Err = NotAForwarding;

    fn from_str(text: &str) -> Result<Self, NotAForwarding> {
        let (here, there) = text.rsplit_once(':').ok_or(NotAForwarding)?;
        let (bind, port) = match here.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), here),
            Some(("localhost", port)) => (IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            Some((bind, port)) => match bind.strip_prefix('[').and_then(|bind| bind.strip_suffix(']')) {
                Some(bind) => (IpAddr::V6(bind.parse().map_err(|_| NotAForwarding)?), port),
                None => (IpAddr::V4(bind.parse().map_err(|_| NotAForwarding)?), port),
            },
        };
        let port = port.parse().map_err(|_| NotAForwarding)?;
        let there = there.parse().ok().filter(|port| *port != 0).ok_or(NotAForwarding)?;
        Ok(Self { here: SocketAddr::new(bind, port), there })
    }
}

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("Could not listen on {here}")]
struct ListenError {
    here: SocketAddr,
    source: io::Error,
}

impl Remedy for ListenError {
    fn hint(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                Some("another program has the port: take another, or 0 for any".to_owned())
            }
            io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 are root's: take a higher one".to_owned())
            }
            _ => None,
        }
    }
}

/// Forwards until it is interrupted.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: Format) -> Result<(), Failure> {
    let instance = client.instance(&arguments.instance).await?;
    let instance = until_running(client, instance, Duration::from_secs(arguments.wait)).await?;
    let mut listeners = Vec::new();
    for Forwarding { here, there } in &arguments.ports {
        group::check_open(client, &instance, *there).await?;
        let listen = |source| ListenError { here: *here, source };
        let listener = TcpListener::bind(here).await.map_err(listen)?;
        let here = listener.local_addr().map_err(listen)?;
        listeners.push((listener, Route { instance_id: instance.instance_id.clone(), here, there: *there }));
    }
    tell(output, &listeners)?;
    let exchange = Arc::new(Exchange {
        client: client.clone(),
        slots: Arc::new(Semaphore::new(CONNECTIONS)),
        complaints: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    for (listener, route) in listeners {
        tasks.spawn(Arc::clone(&exchange).serve(listener, route));
    }
    Ok(interrupted().await?)
}

/// Says where each port is.
fn tell(output: Format, listeners: &[(TcpListener, Route)]) -> Result<(), Failure> {
    match output {
        Format::Table => {
            for (_, route) in listeners {
                data(&route.url())?;
            }
        }
        Format::Json => output.list(&listeners.iter().map(|(_, route)| route.row()).collect::<Vec<_>>())?,
    }
    for (_, route) in listeners {
        note(&route.to_string());
        if !route.here.ip().is_loopback() {
            note("Whoever reaches this machine reaches that port now.");
        }
    }
    note("Ctrl-C ends it.");
    Ok(())
}

/// Where connections come in and where they go.
#[derive(Debug, Clone)]
struct Route {
    instance_id: String,
    here: SocketAddr,
    there: u16,
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Forwarding {} to port {} of {}", self.here, self.there, self.instance_id)
    }
}

impl Route {
    /// For a browser on this machine, if it is a page.
    fn url(&self) -> String {
        let scheme = if matches!(self.there, 443 | 8443) { "https" } else { "http" };
        let mut here = self.here;
        if here.ip().is_unspecified() {
            here.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("{scheme}://{here}/")
    }

    fn row(&self) -> crate::output::Row {
        vec![
            ("url", Cell::from(&*self.url())),
            ("instance", Cell::from(&*self.instance_id)),
            ("here", Cell::from(&*self.here.to_string())),
            ("port", Cell::Number(self.there.into())),
        ]
    }
}

/// What all connections share.
struct Exchange {
    client: Client,
    slots: Arc<Semaphore>,
    /// The last complaint that was told, and when.
    complaints: Mutex<Option<(String, Instant)>>,
}

impl Exchange {
    /// Takes connections in, as many at a time as there are slots.
    async fn serve(self: Arc<Self>, listener: TcpListener, route: Route) {
        let route = Arc::new(route);
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (exchange, route) = (Arc::clone(&self), Arc::clone(&route));
                    tokio::spawn(async move {
                        exchange.carry(stream, &route).await;
                        drop(slot);
                    });
                }
                // Out of descriptors, most likely: some will come back.
                Err(error) => {
                    self.complain(&ListenError { here: route.here, source: error });
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Carries one connection to its end. What breaks it is the peers' affair, unless it could not be opened.
    async fn carry(&self, mut here: TcpStream, route: &Route) {
        let Tunnel { stream: mut there, early } =
            match self.client.tunnel(&route.instance_id, route.there).await {
                Ok(tunnel) => tunnel,
                Err(error) => return self.complain(&error),
            };
        let carried = async {
            here.set_nodelay(true)?;
            here.write_all(&early).await?;
            copy_bidirectional_with_sizes(&mut here, &mut there, BUFFER, BUFFER).await
        };
        let _ = carried.await;
    }

    /// Tells why something failed, but not the same again and again.
    fn complain(&self, error: &dyn Remedy) {
        let text = error.to_string();
        let mut last = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(told, when)| *told == text && when.elapsed() < QUIET) {
            return;
        }
        *last = Some((text, Instant::now()));
        report(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwardings_are_read() {
        for (text, here, there) in [
            ("8080:80", "127.0.0.1:8080", 80),
            ("0:22", "127.0.0.1:0", 22),
            ("localhost:8080:80", "127.0.0.1:8080", 80),
            ("0.0.0.0:8080:80", "0.0.0.0:8080", 80),
            ("[::1]:8080:80", "[::1]:8080", 80),
        ] {
            assert_eq!(text.parse(), Ok(Forwarding { here: here.parse().unwrap(), there }), "{text}");
        }
        for text in
            ["", "80", ":", ":80", "80:", "80:0", "80:65536", "host:80:80", "::1:80:80", "[127.0.0.1]:1:2"]
        {
            assert_eq!(text.parse::<Forwarding>(), Err(NotAForwarding), "{text}");
        }
    }

    #[test]
    fn the_url_is_one_that_works_here() {
        let url = |here: &str, there| {
            Route { instance_id: String::new(), here: here.parse().unwrap(), there }.url()
        };
        assert_eq!(url("127.0.0.1:8080", 80), "http://127.0.0.1:8080/");
        assert_eq!(url("0.0.0.0:8080", 443), "https://127.0.0.1:8080/");
        assert_eq!(url("[::1]:8080", 80), "http://[::1]:8080/");
    }
}
