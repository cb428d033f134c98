//! The resolver, by UDP and TCP, with a resolver on the host behind it.

use std::net::Ipv4Addr;
use std::time::Duration;

use cloud::model::Vpc;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::site::{IMPATIENCE, PATIENCE, RESOLVER, Site, run};

/// What the host's resolver says to every question by UDP …
const BY_DATAGRAM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// … and by TCP.
const BY_STREAM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A question for a name's address.
pub(crate) fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn answer(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let asked = Message::from_vec(question).unwrap();
    let mut message = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    let name = asked.queries[0].name().clone();
    message.add_query(asked.queries[0].clone());
    message.add_answer(Record::from_rdata(name, 60, RData::A(A(address))));
    message.to_vec().unwrap()
}

/// What an answer says: its code, and the address in it.
pub(crate) fn read(answer: &[u8]) -> (ResponseCode, Option<Ipv4Addr>) {
    let message = Message::from_vec(answer).unwrap();
    let address = message.answers.first().map(|record| match record.data {
        RData::A(A(address)) => address,
        ref other => panic!("{other}"),
    });
    (message.metadata.response_code, address)
}

/// The host's resolver. It does not answer names that begin with `silent`, and before it answers one that
/// begins with `raced`, another answer arrives that is not to the question.
pub(crate) async fn start_upstream() {
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).await.unwrap();
    let streams = TcpListener::bind((Ipv4Addr::LOCALHOST, 53)).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer).await {
            let question = &buffer[..length];
            let name = Message::from_vec(question).unwrap().queries[0].name().to_string();
            if name.starts_with("silent") {
                continue;
            }
            if name.starts_with("raced") {
                let wrong = answer(&[&[question[0] ^ 1], &question[1..]].concat(), Ipv4Addr::LOCALHOST);
                datagrams.send_to(&wrong, from).await.unwrap();
                datagrams.send_to(b"junk", from).await.unwrap();
            }
            datagrams.send_to(&answer(question, BY_DATAGRAM), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = streams.accept().await {
            let question = read_framed(&mut stream).await.unwrap();
            write_framed(&mut stream, &answer(&question, BY_STREAM)).await;
        }
    });
}

async fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await.ok()?.into()];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(message.len().try_into().unwrap()).await.unwrap();
    stream.write_all(message).await.unwrap();
}

pub(crate) async fn client(source: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((source, 0)).await.unwrap();
    socket.connect((RESOLVER, 53)).await.unwrap();
    socket
}

/// Asks once; nothing where nobody answers that question.
pub(crate) async fn ask(socket: &UdpSocket, message: &[u8], patience: Duration) -> Option<Vec<u8>> {
    socket.send(message).await.unwrap();
    let mut buffer = [0; 2000];
    let reading = async {
        loop {
            let length = socket.recv(&mut buffer).await.unwrap();
            if buffer[..2] == message[..2] {
                return buffer[..length].to_vec();
            }
        }
    };
    timeout(patience, reading).await.ok()
}

pub(crate) async fn ask_for(socket: &UdpSocket, id: u16, name: &str) -> (ResponseCode, Option<Ipv4Addr>) {
    read(&ask(socket, &question(id, name), PATIENCE).await.expect("an answer"))
}

async fn stream(source: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect((RESOLVER, 53).into()).await.unwrap()
}

fn private_name(address: Ipv4Addr) -> String {
    format!("ip-{}.ec2.internal.", address.to_string().replace('.', "-"))
}

#[test]
fn own_names_are_answered_and_others_handed_on() {
    run(async || {
        start_upstream().await;
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        let socket = client(source).await;
        let own = private_name(source);
        assert_eq!(ask_for(&socket, 1, &own).await, (ResponseCode::NoError, Some(source)));
        let other = ask_for(&socket, 2, "ip-172-31-15-250.ec2.internal.").await;
        assert_eq!(other, (ResponseCode::NXDomain, None));
        let handed_on = (ResponseCode::NoError, Some(BY_DATAGRAM));
        assert_eq!(ask_for(&socket, 3, "example.com.").await, handed_on);
        assert_eq!(ask_for(&socket, 4, "raced.example.com.").await, handed_on);

        let mut stream = stream(source).await;
        for (id, name, address) in [(5, own.as_str(), source), (6, "example.com.", BY_STREAM)] {
            write_framed(&mut stream, &question(id, name)).await;
            let answer = timeout(PATIENCE, read_framed(&mut stream)).await.unwrap().unwrap();
            assert_eq!(read(&answer), (ResponseCode::NoError, Some(address)));
        }
    });
}

#[test]
fn where_no_resolver_answers_the_guest_is_told() {
    run(async || {
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        // Nobody listens at the host's resolver: each try ends at once.
        let failed = ask_for(&client(source).await, 1, "example.com.").await;
        assert_eq!(failed, (ResponseCode::ServFail, None));
        let mut stream = stream(source).await;
        write_framed(&mut stream, &question(2, "example.com.")).await;
        let answer = timeout(PATIENCE, read_framed(&mut stream)).await.unwrap().unwrap();
        assert_eq!(read(&answer).0, ResponseCode::ServFail);
    });
}

#[test]
fn strangers_and_vpcs_without_a_resolver_are_not_answered() {
    run(async || {
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        let own = question(1, &private_name(source));
        let stranger = client(Ipv4Addr::new(172, 31, 15, 250)).await;
        assert_eq!(ask(&stranger, &own, IMPATIENCE).await, None);
        let guest = client(source).await;
        assert!(ask(&guest, &own, PATIENCE).await.is_some());

        let vpc = Vpc::clone(site.cloud.world.default_vpc().unwrap());
        site.cloud.world.put(Vpc { dns_support: false, ..vpc }.into());
        site.publish();
        crate::site::eventually("the resolver falls silent", async || {
            ask(&guest, &own, IMPATIENCE).await.is_none()
        })
        .await;
    });
}

#[test]
fn what_is_no_question_does_no_harm() {
    run(async || {
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        let socket = client(source).await;
        for noise in [&[][..], &[0; 11], &[0xff; 512], &[0; 2000]] {
            socket.send(noise).await.unwrap();
        }
        for noise in [&[0, 0][..], &[0xff, 0xff, 1], &[4, 208, 0]] {
            let mut stream = stream(source).await;
            stream.write_all(noise).await.unwrap();
        }
        let own = private_name(source);
        assert_eq!(ask_for(&socket, 77, &own).await, (ResponseCode::NoError, Some(source)));
    });
}
