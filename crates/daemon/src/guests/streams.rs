//! Connections from guests: accepted from those who are known, within their bounds, each on a task of its own.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::limits::{Guest, Place};
use super::service::{Service, pause_after};

/// A guest at the other end of a connection.
pub(super) struct Caller {
    pub(super) source: Ipv4Addr,
    pub(super) guest: Arc<Guest>,
    _place: Place,
}

/// Accepts connections for as long as this is not dropped, and has `converse` talk over each. Whoever is unknown or has too many
/// is hung up on.
pub(super) async fn accept<F>(
    listener: &TcpListener,
    service: &Service,
    converse: impl Fn(TcpStream, Caller) -> F,
) -> io::Error
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, source)) => {
                    if let Some(caller) = admit(source, service) {
                        conversations.spawn(converse(stream, caller));
                    }
                }
                Err(error) => pause_after(error, "could not accept a guest's connection").await,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

fn admit(source: SocketAddr, service: &Service) -> Option<Caller> {
    let (source, guest) = service.guest(source)?;
    let place = service.shared.limits.stream(&guest)?;
    Some(Caller { source, guest, _place: place })
}
