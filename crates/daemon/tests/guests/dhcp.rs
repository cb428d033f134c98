//! DHCP over UDP, as far as a client that has an address already can go; `real` has one that has none.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::site::{IMPATIENCE, PATIENCE, ROUTER, Site, eventually, run};

/// Message types (RFC 2132, 9.6).
pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;

/// A client's message (RFC 2131, 2), with the address it asks for.
pub(crate) fn message(kind: u8, mac: [u8; 6], wanted: Option<Ipv4Addr>) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[4..8].copy_from_slice(b"abcd");
    message[28..34].copy_from_slice(&mac);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, kind]);
    if let Some(wanted) = wanted {
        message.extend([50, 4]);
        message.extend(wanted.octets());
    }
    message.push(255);
    message
}

/// The kind of an answer, and the address in it.
pub(crate) fn read(answer: &[u8]) -> (u8, Ipv4Addr) {
    assert_eq!(answer[4..8], *b"abcd");
    let kind = answer[240..].strip_prefix(&[53, 1]).expect("the first option is the message's kind")[0];
    (kind, Ipv4Addr::from(*answer[16..].first_chunk::<4>().unwrap()))
}

async fn client(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 68)).await.unwrap();
    socket.connect((ROUTER, 67)).await.unwrap();
    socket
}

/// The address in the next answer of that kind, if there is one in time.
async fn exchange(socket: &UdpSocket, message: &[u8], kind: u8, patience: Duration) -> Option<Ipv4Addr> {
    socket.send(message).await.unwrap();
    let mut answer = [0; 1500];
    let listening = async {
        loop {
            let length = socket.recv(&mut answer).await.unwrap();
            let (found, address) = read(&answer[..length]);
            if found == kind {
                return address;
            }
        }
    };
    timeout(patience, listening).await.ok()
}

#[test]
fn an_interface_is_told_its_address_from_the_moment_it_is_known() {
    run(async || {
        let mut site = Site::new();
        site.launch_and_serve().await;
        for _ in 0..3 {
            let (id, address) = site.launch();
            let mac = site.cloud.interface(id).mac.0;
            let socket = client(address).await;
            // Between publishing and knowing there is a moment, much shorter than any guest's start.
            let discover = message(DISCOVER, mac, None);
            eventually("an offer", async || {
                exchange(&socket, &discover, OFFER, IMPATIENCE).await == Some(address)
            })
            .await;
            let request = message(REQUEST, mac, Some(address));
            assert_eq!(exchange(&socket, &request, ACK, PATIENCE).await, Some(address));
        }
    });
}

#[test]
fn nobody_else_is_answered() {
    run(async || {
        let mut site = Site::new();
        let (id, address) = site.launch_and_serve().await;
        let (other, _) = site.launch();
        let (mac, others) = (site.cloud.interface(id).mac.0, site.cloud.interface(other).mac.0);
        let socket = client(address).await;
        for unanswered in [
            message(DISCOVER, [2, 9, 9, 9, 9, 9], None), // nobody's link address
            message(DISCOVER, others, None),             // in another's name, from the wrong address
            message(4, mac, None),                       // DECLINE
            message(DISCOVER, mac, None)[..239].to_vec(),
            vec![0xff; 2000],
            Vec::new(),
        ] {
            assert_eq!(exchange(&socket, &unanswered, OFFER, IMPATIENCE).await, None);
        }
        let discover = message(DISCOVER, mac, None);
        assert_eq!(exchange(&socket, &discover, OFFER, PATIENCE).await, Some(address));
    });
}
