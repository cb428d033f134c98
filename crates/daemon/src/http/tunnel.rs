//! Connections to guests and their consoles, through a signed upgrade on the API's own port.
//!
//! A client that reaches the API reaches its guests, wherever it runs: the request is verified like any
//! other, then the connection changes its protocol (RFC 9110, 7.8) and carries bytes both ways.
//! Security groups hold for it: the daemon connects as the router of the guest's subnet does, so a
//! port that no rule opens is refused here too.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use cloud::state::InstanceState;
use ec2::sign::Payload;
use ec2::{Error, Resource};
use host::ErrorKind;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use spec::ids::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;
use tracing::debug;

use super::{Answer, Server, full};

/// The protocol that is upgraded to.
const PROTOCOL: &str = "cumulet-stream";
/// How long a guest may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// `GET /_cumulet/connect?instance=i-…&port=22`: to a TCP port of the guest.
pub(super) async fn connect(server: &Server, request: Request<Incoming>) -> Result<Answer, Error> {
    let asked = Asked::read(server, &request)?;
    let port = asked.port()?;
    let world = server.store.world();
    let interface = world.primary_interface(asked.instance).ok_or_else(|| no_network(asked.instance))?;
    let (vpc, to) = (interface.vpc, SocketAddrV4::new(interface.address, port));
    let host = Arc::clone(&server.host);
    let stream = in_background(move || {
        let stream = host.connect(vpc, to, PATIENCE)?;
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(unusable)?;
        Ok(stream)
    })
    .await?;
    let stream = TcpStream::from_std(stream).map_err(|error| broken(&unusable(error)))?;
    Ok(upgrade(request, stream))
}

/// `GET /_cumulet/console?instance=i-…`: to the guest's serial console.
pub(super) async fn console(server: &Server, request: Request<Incoming>) -> Result<Answer, Error> {
    let instance = Asked::read(server, &request)?.instance;
    let host = Arc::clone(&server.host);
    let stream = in_background(move || {
        let stream = host.attach_console(instance)?;
        stream.set_nonblocking(true).map_err(unusable)?;
        Ok(stream)
    })
    .await?;
    let stream = UnixStream::from_std(stream).map_err(|error| broken(&unusable(error)))?;
    Ok(upgrade(request, stream))
}

/// What is asked for, after its signature was verified and its instance was found to run.
struct Asked<'a> {
    instance: InstanceId,
    query: &'a str,
}

impl<'a> Asked<'a> {
    fn read(server: &Server, request: &'a Request<Incoming>) -> Result<Self, Error> {
        server.verify(&head_of(request), Payload::Bytes(b""), ec2::Service::Ec2)?;
        if !wants_upgrade(request) {
            let text = format!("This path is for an upgrade: Connection: Upgrade, Upgrade: {PROTOCOL}");
            return Err(Error::new(400, "InvalidRequest", text));
        }
        let query = request.uri().query().unwrap_or_default();
        let id = value(query, "instance").ok_or_else(|| Error::missing_parameter("instance"))?;
        let instance: InstanceId = id.parse().map_err(|_| Error::malformed_id(Resource::Instance, id))?;
        let world = server.store.world();
        let row = world.instances.get(&instance).ok_or_else(|| Error::not_found(Resource::Instance, id))?;
        match world.instance_state(row) {
            InstanceState::Running | InstanceState::Stopping | InstanceState::ShuttingDown => {
                Ok(Self { instance, query })
            }
            state => {
                let text = format!("The instance '{id}' is {}, not running", state.name());
                Err(Error::new(400, "IncorrectInstanceState", text))
            }
        }
    }

    fn port(&self) -> Result<u16, Error> {
        let text = value(self.query, "port").ok_or_else(|| Error::missing_parameter("port"))?;
        let port = text.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| {
            Error::invalid_parameter_value("port", text, "A port is a number from 1 to 65535.")
        })
    }
}

/// The request's head, as signatures cover it.
fn head_of(request: &Request<Incoming>) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method.clone_from(request.method());
    head.uri.clone_from(request.uri());
    head.headers.clone_from(request.headers());
    head
}

fn wants_upgrade(request: &Request<Incoming>) -> bool {
    let protocol = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL))
}

/// The value of a query parameter. Ids and numbers need no percent-encoding.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, host::Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| broken(&error)),
        Err(_) => Err(Error::internal_error()),
    }
}

/// What the client is told when the guest cannot be reached.
fn broken(error: &host::Error) -> Error {
    match error.kind {
        ErrorKind::Unsupported => Error::unsupported_operation(error.chain()),
        _ => Error::new(400, "GuestNotReachable", error.chain()),
    }
}

fn unusable(error: std::io::Error) -> host::Error {
    host::Error::passing("Could not use the connection to the guest", error)
}

fn no_network(instance: InstanceId) -> Error {
    Error::new(400, "IncorrectInstanceState", format!("The instance '{instance}' has no network interface"))
}

/// Answers with the change of protocol, and carries bytes from then on until both sides have ended.
fn upgrade(
    mut request: Request<Incoming>,
    mut guest: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Answer {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let carried = match upgraded.await {
            Ok(client) => copy_bidirectional(&mut TokioIo::new(client), &mut guest).await,
            Err(error) => return debug!("an upgrade did not happen: {error}"),
        };
        match carried {
            Ok((sent, received)) => debug!("a tunnel ended after {sent} bytes there and {received} back"),
            Err(error) => debug!("a tunnel broke off: {error}"),
        }
    });
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values() {
        assert_eq!(value("instance=i-1&port=22", "port"), Some("22"));
        assert_eq!(value("instance=i-1&export=22", "port"), None);
        assert_eq!(value("", "port"), None);
        assert_eq!(value("port", "port"), None);
    }
}
