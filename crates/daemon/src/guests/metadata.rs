//! The metadata service's HTTP: version 1.1, bounded in every direction, around `guest_services::metadata`.

use std::io;
use std::net::TcpStream as Handle;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use guest_services::metadata::{Request, Response, Sessions, answer};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{StatusCode, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::trace;

use super::service::Service;
use super::streams::{self, Caller};
use crate::store::random;

/// How long a request's head may take, and how long a connection may wait for the next one.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last altogether: whoever reads slowly gives the place back, too.
const LONGEST_CONNECTION: Duration = Duration::from_secs(120);
/// The longest head of a request, in bytes, which is also as much as is kept of an unread body.
const LONGEST_HEAD: usize = 8192;
/// The most headers in it.
const MOST_HEADERS: usize = 64;

/// Serves the metadata of a VPC's guests.
pub(super) async fn serve(listener: TcpListener, service: Arc<Service>) -> io::Error {
    streams::accept(&listener, &service, |stream, caller| converse(stream, caller, Arc::clone(&service)))
        .await
}

async fn converse(stream: TcpStream, caller: Caller, service: Arc<Service>) {
    let line = match Line::of(&stream) {
        Ok(line) => line,
        Err(error) => return trace!("{}: {error}", caller.source),
    };
    let respond = service_fn(async |request| respond(&request, &caller, &service, &line).await);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(true)
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), respond);
    if let Ok(Err(error)) = timeout(LONGEST_CONNECTION, connection).await {
        trace!("{}: {error}", caller.source);
    }
}

async fn respond(
    request: &http::Request<Incoming>,
    caller: &Caller,
    service: &Service,
    line: &Line,
) -> io::Result<http::Response<Full<Bytes>>> {
    caller.guest.wait_to_ask().await;
    // Whoever has the address now: a connection may outlive the instance that opened it.
    let views = service.views();
    let Some(view) = views.instance(caller.source) else { return Ok(stranger()) };
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let asked = Request::new(request.method().as_str(), request.uri().path(), header);
    let nonce = random().to_be_bytes();
    let sessions = Sessions { secret: &service.shared.secret, now: Timestamp::now(), nonce };
    let response = answer(&asked, view, sessions);
    if let Some(hops) = response.hop_limit {
        line.limit_hops(hops)?;
    }
    trace!("{}: {} {} {}", view.instance_id, request.method(), request.uri().path(), response.status);
    in_hypers_words(response)
}

fn in_hypers_words(response: Response) -> io::Result<http::Response<Full<Bytes>>> {
    let mut answer = http::Response::builder().status(response.status);
    for (name, value) in response.headers {
        answer = answer.header(name, value);
    }
    answer.body(Full::from(response.body)).map_err(io::Error::other)
}

/// For an address that has ceased to be anybody's.
fn stranger() -> http::Response<Full<Bytes>> {
    let mut answer = http::Response::new(Full::default());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// How far what is sent over a connection may travel. It only ever shrinks: if it grew after a token was sent, the kernel might
/// send that token once more, and further.
struct Line {
    handle: Handle,
    hops: AtomicU8,
}

impl Line {
    fn of(stream: &TcpStream) -> io::Result<Self> {
        let handle = stream.as_fd().try_clone_to_owned()?.into();
        Ok(Self { handle, hops: AtomicU8::new(u8::MAX) })
    }

    /// Lets nothing sent from now on travel over more hops than this.
    fn limit_hops(&self, hops: u8) -> io::Result<()> {
        if self.hops.fetch_min(hops, Ordering::Relaxed) > hops {
            self.handle.set_ttl(hops.into())?;
        }
        Ok(())
    }
}
