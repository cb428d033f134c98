//! A subnet's resolver, by UDP and by TCP, around `guest_services::dns`.
//!
//! Names of ours are answered on the spot. A question for the host's resolver waits on a task of its own, so that
//! the next one need not; over a connection, questions are answered one after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use guest_services::dns::{Decision, Frame, LONGEST_QUERY, Transport, answer, failure, framed, next_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::trace;

use super::limits::Guest;
use super::service::{Service, pause_after};
use super::streams::{self, Caller};

/// How long a connection may wait for the next question, or for an answer to be taken (RFC 7766, 6.2.3 asks for some seconds).
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers questions that come in datagrams.
pub(super) async fn serve_datagrams(socket: UdpSocket, service: Arc<Service>) -> io::Error {
    let socket = Arc::new(socket);
    let mut forwarded = JoinSet::new();
    let mut buffer = [0; LONGEST_QUERY + 1]; // one more, so that what is too long is seen to be
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, source)) => {
                    take_datagram(&buffer[..length], source, &socket, &service, &mut forwarded).await;
                }
                Err(error) => pause_after(error, "could not read a guest's DNS question").await,
            },
            Some(_) = forwarded.join_next() => {}
        }
    }
}

async fn take_datagram(
    question: &[u8],
    source: SocketAddr,
    socket: &Arc<UdpSocket>,
    service: &Arc<Service>,
    forwarded: &mut JoinSet<()>,
) {
    let Some((_, guest)) = service.guest(source).filter(|(_, guest)| guest.may_ask()) else { return };
    match decide(question, service) {
        Decision::Reply(reply) => send(socket, &reply, source).await,
        Decision::Ignore => {}
        Decision::Forward => {
            let (question, socket, service) = (question.to_vec(), Arc::clone(socket), Arc::clone(service));
            forwarded.spawn(async move {
                if let Some(reply) = forward(&question, Transport::Udp, &guest, &service).await {
                    send(&socket, &reply, source).await;
                }
            });
        }
    }
}

/// An answer that cannot be sent is lost, as any datagram may be.
async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        trace!("could not send a DNS answer to {to}: {error}");
    }
}

/// Answers questions that come over connections.
pub(super) async fn serve_streams(listener: TcpListener, service: Arc<Service>) -> io::Error {
    let converse = |stream, caller| {
        let service = Arc::clone(&service);
        async move {
            if let Err(error) = converse(stream, &caller, &service).await {
                trace!("DNS connection of {}: {error}", caller.source);
            }
        }
    };
    streams::accept(&listener, &service, converse).await
}

async fn converse(mut stream: TcpStream, caller: &Caller, service: &Service) -> io::Result<()> {
    let mut unread = Vec::with_capacity(2 + LONGEST_QUERY);
    loop {
        match next_frame(&unread) {
            Frame::Message(question, rest) => {
                caller.guest.wait_to_ask().await;
                if let Some(reply) = reply(question, caller, service).await {
                    timeout(PATIENCE, stream.write_all(&reply)).await??;
                }
                let read = unread.len() - rest.len();
                unread.drain(..read);
            }
            // Room for one question is left: a longer one is no question of ours.
            Frame::Incomplete => {
                let limit = u64::try_from(2 + LONGEST_QUERY - unread.len()).unwrap_or_default();
                let read = timeout(PATIENCE, (&mut stream).take(limit).read_buf(&mut unread)).await??;
                if read == 0 {
                    return Ok(());
                }
            }
            Frame::Invalid => return Ok(()),
        }
    }
}

async fn reply(question: &[u8], caller: &Caller, service: &Service) -> Option<Vec<u8>> {
    let reply = match decide(question, service) {
        Decision::Reply(reply) => reply,
        Decision::Forward => forward(question, Transport::Tcp, &caller.guest, service).await?,
        Decision::Ignore => return None,
    };
    framed(&reply)
}

/// A VPC without a resolver does not answer, as in EC2.
fn decide(question: &[u8], service: &Service) -> Decision {
    let views = service.views();
    if views.has_resolver() { answer(question, &*views) } else { Decision::Ignore }
}

/// Asks the host's resolver, and has an answer in any case.
async fn forward(question: &[u8], transport: Transport, guest: &Guest, service: &Service) -> Option<Vec<u8>> {
    let shared = &service.shared;
    let _place = match shared.limits.question(guest) {
        Some(place) => place,
        None => return failure(question),
    };
    match shared.upstream.ask(question, transport).await {
        Some(reply) => Some(reply),
        None => failure(question),
    }
}
