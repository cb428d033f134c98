//! DHCP on one subnet's bridge, around `guest_services::dhcp`.
//!
//! Messages are answered one after the other and nothing is kept of them, so there is nothing to wear out. They are not
//! counted against anybody: who has no address yet is known only by what he says, and whoever speaks in a neighbour's
//! name could use up the neighbour's rate. Only answers that all of the subnet hears have a rate, as each is multiplied.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use guest_services::dhcp::{Reply, answer};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use spec::ids::SubnetId;
use tokio::net::UdpSocket;
use tokio::time::{Instant, interval};

use super::LOOK;
use super::limits::Bucket;
use super::service::{Service, pause_after};

/// Bytes that are read of a message; longer than any that is answered.
const BUFFER: usize = 2048;
/// Answers a second that all of a subnet hears.
const BROADCASTS: u32 = 64;

/// Answers a subnet's DHCP clients until its bridge is gone.
pub(super) async fn serve(socket: UdpSocket, subnet: SubnetId, service: Arc<Service>) -> io::Error {
    let mut broadcasts = Bucket::new(BROADCASTS, Instant::now());
    let mut looks = interval(LOOK);
    let mut buffer = [0; BUFFER];
    loop {
        let done = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, SocketAddr::V4(source))) => {
                    match decide(&buffer[..length], source, subnet, &service, &mut broadcasts) {
                        Some(reply) => socket.send_to(&reply.bytes, reply.to).await.map(drop),
                        None => Ok(()),
                    }
                }
                Ok((_, SocketAddr::V6(_))) => Ok(()),
                Err(error) => Err(error),
            },
            _ = looks.tick() => match device_is_gone(&socket) {
                Some(error) => return error,
                None => Ok(()),
            }
        };
        if let Err(error) = done {
            pause_after(error, &format!("DHCP on {subnet}")).await;
        }
    }
}

fn decide(
    message: &[u8],
    source: SocketAddrV4,
    subnet: SubnetId,
    service: &Service,
    broadcasts: &mut Bucket,
) -> Option<Reply> {
    let views = service.views();
    let reply = answer(message, *source.ip(), |mac| views.interface(subnet, mac))?;
    (!reply.to.ip().is_broadcast() || broadcasts.take(Instant::now()).is_ok()).then_some(reply)
}

/// A socket stays bound to a link that was deleted, and hears nothing of a new one of the same name.
fn device_is_gone(socket: &UdpSocket) -> Option<io::Error> {
    match getsockopt(socket, sockopt::BindToDevice) {
        Err(Errno::ENODEV) => Some(Errno::ENODEV.into()),
        _ => None,
    }
}
