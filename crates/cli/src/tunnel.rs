//! A stream of bytes to a guest, through a signed upgrade on the API's own port.

use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::net::TcpStream;

use crate::client::{CallError, Client};
use crate::output::note;

/// The code of a refusal whose reason is the guest: it does not listen, or does not answer.
const GUEST_NOT_REACHABLE: &str = "GuestNotReachable";
/// How long to wait before trying a guest again that does not accept connections yet.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection that carries a guest's bytes. Closing one direction leaves the other open.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The connection to the daemon.
    pub(crate) stream: TcpStream,
    /// What the guest said so early that it came with the answer to the upgrade; it precedes what is in the stream.
    pub(crate) early: Bytes,
}

impl Client {
    /// A tunnel to a TCP port of an instance, as its subnet's router would reach it.
    pub(crate) async fn tunnel(&self, instance_id: &str, port: u16) -> Result<Tunnel, CallError> {
        let port = port.to_string();
        let query = ec2::query::form([("instance", instance_id), ("port", port.as_str())]);
        self.upgrade(&format!("/_cumulet/connect?{query}")).await.map_err(|error| match error {
            CallError::Refused(refusal) if refusal.code() == GUEST_NOT_REACHABLE => {
                CallError::GuestNotReachable { instance_id: instance_id.to_owned(), refusal }
            }
            other => other,
        })
    }

    /// The serial console of an instance.
    pub(crate) async fn console(&self, instance_id: &str) -> Result<Tunnel, CallError> {
        let query = ec2::query::form([("instance", instance_id)]);
        self.upgrade(&format!("/_cumulet/console?{query}")).await
    }

    /// A tunnel to a port on which the guest may not listen yet: tried again until it does or `patience` is over.
    pub(crate) async fn tunnel_when_ready(
        &self,
        instance_id: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Tunnel, CallError> {
        let deadline = Instant::now() + patience;
        let mut told = false;
        loop {
            match self.tunnel(instance_id, port).await {
                Err(error) if error.may_pass() && Instant::now() + PAUSE < deadline => {
                    if !told {
                        let seconds = patience.as_secs();
                        note(&format!(
                            "Waiting up to {seconds} s for {instance_id} to accept connections on port {port}"
                        ));
                        told = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }
}

impl CallError {
    /// Whether a guest that is still booting can be the reason.
    fn may_pass(&self) -> bool {
        match self {
            Self::GuestNotReachable { .. } => true,
            Self::Refused(refusal) => refusal.status() >= 500,
            _ => false,
        }
    }
}
