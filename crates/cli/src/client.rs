//! Signed requests to the API's port, each on a connection of its own.
//!
//! Three kinds: a call of the EC2 API, an upgrade to a stream of bytes, an upload. Every answer is bounded in size, and
//! every wait in time, but for an upload and a stream, which last as long as they last.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use ec2::actions::{read_response, write_request};
use ec2::sign::{HttpRequest, Payload, Scope};
use ec2::xml::{MAX_BYTES, XmlError};
use ec2::{Action, Service, Timestamp};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::failure::Remedy;
use crate::identity::Identity;
use crate::tunnel::Tunnel;

/// How long the daemon may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a call may take. The daemon answers from memory; a busy machine still gets its time.
const CALL_PATIENCE: Duration = Duration::from_secs(60);
/// How long an upgrade may take: longer than the daemon gives a guest to accept a connection.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(30);
/// The protocol that tunnels and consoles speak after the upgrade: bytes, both ways.
const PROTOCOL: &str = "cumulet-stream";
/// SHA-256 of nothing, in hexadecimal: the body of an upgrade.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Who asks, and whom.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    identity: Identity,
}

/// Why a request has no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody answers at the endpoint.
    #[error("Could not connect to {endpoint}")]
    Unreachable { endpoint: Endpoint, source: io::Error },
    /// Somebody takes the request and does not answer it.
    #[error("{endpoint} did not answer within {} seconds", patience.as_secs())]
    Silent { endpoint: Endpoint, patience: Duration },
    /// The connection ended in the middle.
    #[error("The connection to {endpoint} broke off")]
    BrokeOff { endpoint: Endpoint, source: Box<dyn StdError + Send + Sync> },
    /// The cloud says no.
    #[error("{} ({})", .0.message(), .0.code())]
    Refused(ec2::Error),
    /// The cloud cannot reach a guest's port.
    #[error("{} ({})", refusal.message(), refusal.code())]
    GuestNotReachable { instance_id: String, refusal: ec2::Error },
    /// Whoever answers is not a cloud.
    #[error("What answers at {endpoint} is not cumuletd: it says HTTP {status}")]
    Stranger { endpoint: Endpoint, status: StatusCode },
    /// The answer to a call cannot be understood.
    #[error("The answer to {action} cannot be read")]
    Answer { action: &'static str, source: XmlError },
}

impl CallError {
    /// The code of the cloud's refusal, if it is one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) | Self::GuestNotReachable { refusal, .. } => Some(refusal.code()),
            _ => None,
        }
    }
}

impl Remedy for CallError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { .. } => {
                "is the cloud running? Start it with scripts/quickstart, or look: systemctl status cumuletd"
            }
            Self::Silent { .. } | Self::BrokeOff { .. } => {
                "look at the daemon's log: journalctl -u cumuletd -n 50"
            }
            Self::Stranger { .. } => "another program uses the port; name the right one with --endpoint",
            Self::Answer { .. } => "cumulet and cumuletd should be of the same version",
            Self::Refused(refusal) => return hint_for(refusal.code()),
            Self::GuestNotReachable { instance_id, .. } => {
                return Some(format!("look at what the guest says: cumulet console {instance_id} --log"));
            }
        };
        Some(hint.to_owned())
    }
}

/// What to do about EC2's codes that a first hour meets.
fn hint_for(code: &str) -> Option<String> {
    let hint = match code {
        "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" => {
            "the key is another cloud's, or an older one's; cumulet status says which one is used"
        }
        "RequestExpired" => "the clocks of this machine and the cloud's differ: timedatectl",
        "InsufficientInstanceCapacity" => "make room with cumulet rm, or take a smaller type: cumulet types",
        "InsufficientDiskSpace" => "make room where the cloud keeps its state: df -h /var/lib/cumulet",
        "InvalidAMIName.Duplicate" => "take another name, or remove that image first: cumulet images",
        _ => match code.split(['.', '_']).next().unwrap_or(code) {
            "InvalidInstanceID" => "see what there is: cumulet instances",
            "InvalidAMIID" => "see what there is: cumulet images",
            "InvalidInstanceType" => "see what there is: cumulet types",
            "InvalidKeyPair" => "see what there is: aws ec2 describe-key-pairs",
            "InvalidGroup" | "InvalidGroupId" => "see what there is: aws ec2 describe-security-groups",
            _ => return None,
        },
    };
    Some(hint.to_owned())
}

impl Client {
    /// Asks as `identity`.
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// Who asks, and whom.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Has the cloud carry out one action of EC2 or STS.
    pub(crate) async fn call<A: Action>(&self, request: &A) -> Result<A::Response, CallError> {
        let about = A::ABOUT;
        let body = write_request(request, false).expect("every request of the table can be written");
        let request = self
            .signed(&Method::POST, "/", about.service, Payload::Bytes(body.as_bytes()), &[])
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .body(Full::new(Bytes::from(body)))
            .expect("the parts of a call are well-formed");
        let (status, text) = self
            .within(CALL_PATIENCE, async {
                let answer = self.send(request).await?;
                Ok((answer.status(), self.text(answer).await?))
            })
            .await?;
        if status != StatusCode::OK {
            return Err(self.refusal(status, &text));
        }
        read_response::<A>(&text).map_err(|source| CallError::Answer { action: about.name, source })
    }

    /// Turns a connection into a stream of bytes both ways. `target` is path and query.
    pub(crate) async fn upgrade(&self, target: &str) -> Result<Tunnel, CallError> {
        let hash = [("x-amz-content-sha256", NO_BODY)];
        let request = self
            .signed(&Method::GET, target, Service::Ec2, Payload::Bytes(b""), &hash)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL)
            .body(Empty::<Bytes>::new())
            .expect("the parts of an upgrade are well-formed");
        let upgraded = self
            .within(UPGRADE_PATIENCE, async {
                let answer = self.send(request).await?;
                match answer.status() {
                    StatusCode::SWITCHING_PROTOCOLS => {
                        hyper::upgrade::on(answer).await.map_err(|error| self.broke_off(error))
                    }
                    _ => Err(self.refused(answer).await),
                }
            })
            .await?;
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("the stream is the one it was made of");
        Ok(Tunnel { stream: parts.io.into_inner(), early: parts.read_buf })
    }

    /// Uploads a body that the signature does not cover. The answer comes when the daemon has something to say,
    /// which may be before the body was sent.
    pub(crate) async fn upload<B>(
        &self,
        target: &str,
        prepare: impl FnOnce(&mut Request<B>),
        body: B,
    ) -> Result<Response<Incoming>, CallError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut request = self
            .signed(&Method::PUT, target, Service::Ec2, Payload::Unsigned, &[])
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(body)
            .expect("the parts of an upload are well-formed");
        prepare(&mut request);
        let answer = self.send(request).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(self.refused(answer).await),
        }
    }

    /// A request's head with its signature, which covers `extra` too. What is added to it later is not covered.
    fn signed(
        &self,
        method: &Method,
        target: &str,
        service: Service,
        payload: Payload<'_>,
        extra: &[(&'static str, &str)],
    ) -> hyper::http::request::Builder {
        let host = self.identity.endpoint.host_header();
        let mut headers = vec![("host", host.as_str())];
        headers.extend_from_slice(extra);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = HttpRequest { method: method.as_str(), path, query, headers: &headers, payload };
        let scope = Scope { region: &self.identity.region, service: service.signing_name() };
        let signature = self
            .identity
            .signer()
            .headers(request, scope, now())
            .expect("a query string of ours can be decoded");
        let builder = Request::builder().method(method).uri(target).header(HOST, &host);
        let builder = extra.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        signature.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value))
    }

    /// Sends a request on a new connection, which stays open as long as the answer's body is read.
    async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, CallError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let endpoint = &self.identity.endpoint;
        let unreachable = |source| CallError::Unreachable { endpoint: endpoint.clone(), source };
        let stream = match timeout(CONNECT_PATIENCE, TcpStream::connect(endpoint.target())).await {
            Ok(connected) => connected.map_err(unreachable)?,
            Err(_) => return Err(unreachable(io::ErrorKind::TimedOut.into())),
        };
        // Keys that are typed into a console should leave at once.
        stream.set_nodelay(true).map_err(unreachable)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broke_off(error))?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| self.broke_off(error))
    }

    async fn within<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let silent = || CallError::Silent { endpoint: self.identity.endpoint.clone(), patience };
        timeout(patience, work).await.unwrap_or_else(|_| Err(silent()))
    }

    /// The whole body of an answer, if it is a document of a size that we read.
    async fn text(&self, answer: Response<Incoming>) -> Result<String, CallError> {
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let bytes = body.map_err(|error| self.broke_off(error))?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn refused(&self, answer: Response<Incoming>) -> CallError {
        let status = answer.status();
        let text = timeout(CALL_PATIENCE, self.text(answer)).await;
        self.refusal(status, &text.ok().and_then(Result::ok).unwrap_or_default())
    }

    fn refusal(&self, status: StatusCode, text: &str) -> CallError {
        match ec2::Error::from_xml(status.as_u16(), text) {
            Ok((refusal, _)) => CallError::Refused(refusal),
            Err(_) => CallError::Stranger { endpoint: self.identity.endpoint.clone(), status },
        }
    }

    /// For a connection that ended, or an answer that is no HTTP or is too large.
    pub(crate) fn broke_off(&self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> CallError {
        CallError::BrokeOff { endpoint: self.identity.endpoint.clone(), source: source.into() }
    }
}

/// The time on this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(since_1970.as_secs())
}
