//! The API's port: bounds and authenticates what arrives, and leads it to where it is answered.
//!
//! ```text
//!   POST /                     EC2 and STS: decoded by `ec2`, answered by `api`
//!   GET  /_cumulet/health      no signature: is the daemon up?
//!   GET  /_cumulet/connect     a signed upgrade: bytes to and from a guest's port      (tunnel)
//!   GET  /_cumulet/console     a signed upgrade: a guest's serial console              (tunnel)
//!   PUT  /_cumulet/images      a signed upload: a disk becomes an image                (upload)
//! ```
//!
//! What must hold:
//! - Nothing is obeyed before its signature is verified, and nothing is read without a bound.
//! - Every refusal is EC2's error envelope with EC2's status, whatever path it was for.

mod tunnel;
mod upload;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ec2::query::Parameters;
use ec2::sign::{HttpRequest, Payload, Secret, verify};
use ec2::{Call, Error, Service, Timestamp};
use host::Host;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::api::Api;
use crate::identity::Client;
use crate::store::{Store, now, random};

/// Connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to send a request's body.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a request's head at most.
const MAX_HEAD: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Response<Body>;

/// What every request is answered from.
#[derive(Clone)]
pub struct Server {
    /// The world and its writer.
    pub store: Store,
    /// The host, for what streams.
    pub host: Arc<dyn Host>,
    /// The keys that are obeyed.
    pub client: Arc<Client>,
}

impl Server {
    /// Serves the port until the process ends.
    pub async fn serve(self, listener: TcpListener) -> io::Error {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return io::Error::other("The limit of connections is gone");
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        server.serve_connection(stream).await;
                        drop(permit);
                    });
                }
                // Out of descriptors, most likely: some will come back.
                Err(error) => {
                    warn!("could not accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_connection(self, stream: TcpStream) {
        // Small answers should leave at once.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            debug!("a connection broke off: {error}");
        }
    }

    /// Leads a request to where it is answered.
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let request_id = new_request_id();
        let answered = match (request.method(), request.uri().path()) {
            (_, "/") => return self.ec2(request, &request_id).await,
            (&Method::GET, "/_cumulet/health") => Ok(plain("cumuletd is up\n")),
            (&Method::GET, "/_cumulet/connect") => tunnel::connect(self, request).await,
            (&Method::GET, "/_cumulet/console") => tunnel::console(self, request).await,
            (&Method::PUT, "/_cumulet/images") => upload::image(self, request).await,
            (_, path) => {
                let text = format!("There is nothing at the path {path}; the EC2 API is at /");
                Err(Error::new(404, "InvalidAction", text))
            }
        };
        answered.unwrap_or_else(|error| refuse(&error, Service::Ec2, &request_id))
    }

    /// EC2 and STS.
    async fn ec2(&self, request: Request<Incoming>, request_id: &str) -> Answer {
        let (head, body) = request.into_parts();
        let mut service = service_of_signature(&head);
        let answered = async {
            let body = whole_body(body).await?;
            let query = head.uri.query().unwrap_or_default();
            let parameters = Parameters::parse(&[query.as_bytes(), &body]).map_err(Error::from)?;
            service = service.or(Some(ec2::actions::service_of(&parameters)));
            self.verify(&head, Payload::Bytes(&body), service.unwrap_or(Service::Ec2))?;
            let call = Call::decode(parameters)?;
            let name = call.request.about().name;
            let api =
                Api::new(self.store.clone(), Arc::clone(&self.host), &self.client.endpoint, call.dry_run);
            let answer = call.answer(&api, request_id).await;
            debug!(
                "{name}: {}",
                answer.as_ref().map_or_else(|error| error.code().to_owned(), |_| "ok".into())
            );
            answer
        };
        match answered.await {
            Ok(document) => xml(StatusCode::OK, document),
            Err(error) => refuse(&error, service.unwrap_or(Service::Ec2), request_id),
        }
    }

    /// Whether the request is signed with the account's key; the refusal where it is not.
    fn verify(&self, head: &Parts, payload: Payload<'_>, service: Service) -> Result<(), Error> {
        let headers: Vec<(&str, &str)> = head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let request = HttpRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &headers,
            payload,
        };
        let find = |id: &str, session: Option<&str>| {
            let secret = self.client.secret_of(id).filter(|_| session.is_none())?;
            Some((Secret::new(secret), ()))
        };
        let time = Timestamp::from_unix(now().0 / 1000);
        let verified = verify(&request, service, &self.client.region, time, find);
        verified.map(|_| ()).map_err(|refusal| {
            debug!("refused: {refusal}");
            refusal.answer(service)
        })
    }
}

/// The service that the signature's scope names, where it does: a request for STS is recognised even when its body is
/// not.
fn service_of_signature(head: &Parts) -> Option<Service> {
    let header = head.headers.get("authorization")?.to_str().ok()?;
    let scope = header.split("Credential=").nth(1)?.split([',', ' ']).next()?;
    match scope.rsplit('/').nth(1)? {
        "sts" => Some(Service::Sts),
        "ec2" => Some(Service::Ec2),
        _ => None,
    }
}

async fn whole_body(body: Incoming) -> Result<Bytes, Error> {
    let limited = Limited::new(body, ec2::query::MAX_BYTES).collect();
    let collected = tokio::time::timeout(BODY_PATIENCE, limited)
        .await
        .map_err(|_| Error::new(400, "RequestTimeout", "The request's body did not arrive in time"))?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("The request's body has more than {} bytes", ec2::query::MAX_BYTES);
            Err(Error::new(413, "RequestEntityTooLarge", text))
        }
        Err(_) => Err(Error::new(400, "IncompleteBody", "The request's body broke off")),
    }
}

fn xml(status: StatusCode, document: String) -> Answer {
    let mut answer = Response::new(full(document));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
    answer
}

fn plain(text: &'static str) -> Answer {
    let mut answer = Response::new(full(text));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
    answer
}

fn refuse(error: &Error, service: Service, request_id: &str) -> Answer {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    xml(status, error.to_xml(service, request_id))
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A random UUID (RFC 9562, version 4), as EC2's request ids are.
fn new_request_id() -> String {
    let (high, low) = (random(), random());
    let version = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
    let variant = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let text = format!("{version:016x}{variant:016x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        let id = new_request_id();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
        assert_ne!(id, new_request_id());
    }
}
