//! The metadata service over HTTP.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud::model::MetadataOptions;
use cloud::rules::instance_attributes::{MetadataChange, modify_metadata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::site::{METADATA, PATIENCE, Site, run};

/// Connects as a guest with that address.
pub(crate) async fn connect(source: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((source, 0).into()).unwrap();
    timeout(PATIENCE, socket.connect((METADATA, 80).into())).await.unwrap().unwrap()
}

/// Sends all of a request and reads until the connection is closed; what came before that.
pub(crate) async fn talk(stream: &mut TcpStream, request: &str) -> String {
    // Whoever is hung up on may notice while still writing.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request on a connection of its own.
pub(crate) async fn ask(source: Ipv4Addr, method: &str, path: &str, headers: &str) -> String {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {METADATA}\r\nConnection: close\r\n{headers}\r\n");
    talk(&mut connect(source).await, &request).await
}

pub(crate) async fn get(source: Ipv4Addr, path: &str) -> String {
    ask(source, "GET", path, "").await
}

pub(crate) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub(crate) async fn token(source: Ipv4Addr) -> String {
    let answer =
        ask(source, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n").await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60\r\n"), "{answer}");
    body(&answer).to_owned()
}

#[test]
fn a_session_is_opened_with_a_token_and_is_its_guests_own() {
    run(async || {
        let mut site = Site::new();
        let metadata = MetadataOptions { enabled: true, tokens_required: true, hop_limit: 1, tags: false };
        let strict = site.cloud.launch(cloud::rules::launch::Launch { metadata, ..site.cloud.usual() });
        let (_, other) = site.launch_and_serve().await;
        let address = site.cloud.interface(strict).address;
        let path = "/latest/meta-data/instance-id";
        assert_eq!(status(&get(address, path).await), "401");

        let token = token(address).await;
        let with_token = format!("X-aws-ec2-metadata-token: {token}\r\n");
        let answer = ask(address, "GET", path, &with_token).await;
        assert_eq!((status(&answer), body(&answer)), ("200", strict.to_string().as_str()));
        assert!(answer.contains("\r\nDate: ") && answer.contains("\r\nServer: EC2ws\r\n"), "{answer}");
        assert_eq!(
            status(&ask(other, "GET", path, &with_token).await),
            "401",
            "a token shown by another guest"
        );
        assert_eq!(status(&get(other, path).await), "200", "a guest that needs none");
    });
}

#[test]
fn changed_options_hold_for_the_next_question() {
    run(async || {
        let mut site = Site::new();
        let (id, source) = site.launch_and_serve().await;
        let path = "/latest/meta-data/tags/instance/";
        let mut answers = Vec::new();
        for change in [
            MetadataChange { tags: Some(true), ..MetadataChange::default() },
            MetadataChange { tokens_required: Some(true), ..MetadataChange::default() },
            MetadataChange { enabled: Some(false), ..MetadataChange::default() },
        ] {
            let before = status(&get(source, path).await).to_owned();
            site.cloud.command(|tx| modify_metadata(tx, id, change));
            site.publish();
            let other = async || status(&get(source, path).await) != before;
            crate::site::eventually("another answer", other).await;
            answers.push(status(&get(source, path).await).to_owned());
        }
        assert_eq!(answers, ["200", "401", "403"]);
    });
}

#[test]
fn methods_bodies_and_bytes_pass_as_http_has_them() {
    run(async || {
        let mut site = Site::new();
        let user_data = Some(STANDARD.encode(b"#!/bin/sh\necho hello\n"));
        let id = site.cloud.launch(cloud::rules::launch::Launch { user_data, ..site.cloud.usual() });
        site.launch_and_serve().await;
        let source = site.cloud.interface(id).address;
        assert_eq!(body(&get(source, "/latest/user-data").await), "#!/bin/sh\necho hello\n");
        assert!(body(&get(source, "/").await).ends_with("latest"));

        let head = ask(source, "HEAD", "/latest/user-data", "").await;
        assert!(head.contains("Content-Length: 21\r\n") && body(&head).is_empty(), "{head}");
        let post = ask(source, "POST", "/latest/user-data", "Content-Length: 3\r\n").await;
        assert_eq!(status(&post), "405", "{post}");
        let forwarded = "X-Forwarded-For: 1.2.3.4\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
        assert_eq!(status(&ask(source, "PUT", "/latest/api/token", forwarded).await), "403");
        let absolute = format!("GET http://{METADATA}/latest/meta-data/local-ipv4?x=1 HTTP/1.0\r\n\r\n");
        let answer = talk(&mut connect(source).await, &absolute).await;
        assert_eq!((status(&answer), body(&answer)), ("200", source.to_string().as_str()));
    });
}

#[test]
fn who_says_that_he_will_ask_no_more_is_still_answered() {
    run(async || {
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        for _ in 0..20 {
            let mut stream = connect(source).await;
            stream.write_all(b"GET /latest/meta-data/local-ipv4 HTTP/1.0\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(body(&talk(&mut stream, "").await), source.to_string());
        }
    });
}

#[test]
fn a_connection_is_kept_and_outlives_no_instance() {
    run(async || {
        let mut site = Site::new();
        let (id, source) = site.launch_and_serve().await;
        site.launch(); // so that the VPC stays
        let mut stream = connect(source).await;
        let request = "GET /latest/meta-data/local-ipv4 HTTP/1.1\r\nHost: x\r\n\r\n";
        for _ in 0..3 {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            while !answer.ends_with(&format!("\r\n\r\n{source}")) {
                let mut buffer = [0; 4096];
                let length = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
                assert_ne!(length, 0, "closed after {answer}");
                answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
        }
        site.cloud.terminate(id);
        site.publish();
        crate::site::eventually("the address is nobody's", async || get(source, "/").await.is_empty()).await;
        let answer = talk(&mut stream, request).await;
        assert_eq!(status(&answer), "404", "{answer}");
    });
}

#[test]
fn strangers_are_hung_up_on() {
    run(async || {
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        assert_eq!(status(&get(source, "/").await), "200");
        assert_eq!(get(Ipv4Addr::new(172, 31, 15, 250), "/").await, "");
        assert_eq!(get(Ipv4Addr::LOCALHOST, "/").await, "");
    });
}
