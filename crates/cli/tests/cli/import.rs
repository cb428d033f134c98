//! `cumulet image import`, and the daemon's side of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ec2::Error;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;

use crate::fake::{Body, Fake, Shared, full};
use crate::user::{Ran, User, eventually};

/// How the cloud takes an upload, and what it saw of it.
#[derive(Default)]
pub(crate) struct Upload {
    /// Refuse before anything of the body is read.
    pub(crate) refuse: bool,
    /// Stop reading after the first piece for as long as this is set.
    pub(crate) hold: bool,
    /// What to answer, a line each.
    pub(crate) lines: Vec<&'static str>,
    pub(crate) query: String,
    pub(crate) length: String,
    pub(crate) received: Vec<u8>,
}

/// The daemon's side.
pub(crate) async fn receive(
    world: &Shared,
    head: &Parts,
    mut body: Incoming,
) -> Result<Response<Body>, Error> {
    if world.lock().upload.refuse {
        // Time enough for a client that does not wait to be asked to show itself.
        tokio::time::sleep(Duration::from_millis(500)).await;
        return Err(Error::new(400, "InvalidAMIName.Duplicate", "AMI name tiny is already in use"));
    }
    {
        let mut world = world.lock();
        world.upload.query = head.uri.query().unwrap_or_default().to_owned();
        world.upload.length = head.headers["content-length"].to_str().expect("a number").to_owned();
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::new(400, "IncompleteBody", "The upload broke off"))?;
        world.lock().upload.received.extend_from_slice(frame.data_ref().expect("data"));
        while world.lock().upload.hold {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let lines: String = world.lock().upload.lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(Response::new(full(lines)))
}

/// A disk of some megabytes that are not all the same.
fn disk(user: &User) -> (PathBuf, Vec<u8>) {
    let bytes: Vec<u8> =
        (0..3_000_017_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = user.home.path().join("tiny.raw");
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn import(user: &User, path: &std::path::Path) -> Ran {
    user.run(&["image", "import", path.to_str().unwrap(), "--name", "a tiny one", "-d", "é"])
}

#[test]
fn a_disk_arrives_whole_and_its_progress_is_told() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let (path, bytes) = disk(&user);
    fake.world.lock().upload.lines = vec![
        r#"{"progress":{"done":0,"total":1000}}"#,
        r#"{"progress":{"done":500,"total":1000}}"#,
        r#"{"progress":{"done":10,"total":10,"step":"Reading its kernel"}}"#,
        r#"{"image":"ami-00000001"}"#,
    ];
    let ran = import(&user, &path);
    let world = fake.world.lock();
    assert!(world.upload.received == bytes, "{} of {} bytes", world.upload.received.len(), bytes.len());
    assert_eq!(world.upload.length, bytes.len().to_string());
    assert_eq!(world.upload.query, "name=a%20tiny%20one&description=%C3%A9");
    let told: Vec<&str> = ran.stderr.lines().filter(|line| !line.starts_with("Uploading: ")).collect();
    assert_eq!(
        told,
        [
            "Registering: 0 % of 1000 B",
            "Registering: 50 % of 1000 B",
            "Reading its kernel: 100 % of 10 B",
            "next: cumulet run 'a tiny one' --wait",
        ]
    );
    assert_eq!(ran.ok(), "ami-00000001\n");
}

#[test]
fn a_disk_with_holes_arrives_without_them() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let (path, bytes) = disk(&user);
    File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    fake.world.lock().upload.lines = vec![r#"{"image":"ami-00000001"}"#];
    assert_eq!(import(&user, &path).ok(), "ami-00000001\n");
    let world = fake.world.lock();
    let received = &world.upload.received;
    assert!(received.starts_with(b"QFI\xfb"));
    assert_eq!(world.upload.length, received.len().to_string());
    let contents = &received[received.len() - bytes.len().next_multiple_of(1 << 16)..];
    assert!(contents.starts_with(&bytes), "{} bytes", received.len());
}

#[test]
fn a_refusal_comes_before_the_upload() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let (path, _) = disk(&user);
    File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    fake.world.lock().upload.refuse = true;
    let refused = import(&user, &path).refused();
    let expected = "AMI name tiny is already in use (InvalidAMIName.Duplicate)\nhint: take another name";
    assert!(refused.contains(expected), "{refused}");
    assert!(refused.contains("has 1.00 GiB, 3.19 MiB of them without its holes"), "{refused}");
    assert!(!refused.contains("Uploading"), "nothing was sent: {refused}");
}

#[test]
fn a_daemon_that_does_not_ask_gets_the_disk_all_the_same() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let (path, bytes) = disk(&user);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; 64 * 1024];
        let head = stream.read(&mut received).unwrap();
        received.truncate(head);
        let body = received.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(received.drain(..body).collect()).unwrap();
        let mut rest = vec![0; 3_000_017 - received.len()];
        stream.read_exact(&mut rest).unwrap();
        received.extend(rest);
        let answer = "{\"image\":\"ami-00000001\"}\n";
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        (head, received)
    });
    let arguments = ["--endpoint", &endpoint, "image", "import", path.to_str().unwrap(), "-n", "tiny"];
    assert_eq!(user.run(&arguments).ok(), "ami-00000001\n");
    let (head, received) = daemon.join().unwrap();
    assert!(head.starts_with("PUT /_cumulet/images?name=tiny HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nexpect: 100-continue\r\n") && received == bytes, "{head}");
}

#[test]
fn what_the_daemon_says_at_last_decides() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let (path, _) = disk(&user);
    for (lines, told) in [
        (
            vec![r#"{"error":{"code":"InvalidDiskImage","message":"There is no partition table"}}"#],
            "cumulet: There is no partition table (InvalidDiskImage)\n",
        ),
        (
            vec![r#"{"progress":{"done":0,"total":1}}"#],
            "cumulet: It is not known whether the import succeeded: The daemon did not say how it ended\nhint: look",
        ),
        (vec!["<html>"], "The daemon said something that cannot be read: "),
    ] {
        fake.world.lock().upload.lines = lines;
        let refused = import(&user, &path).refused();
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn a_disk_that_shrinks_meanwhile_is_not_registered() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let path = user.home.path().join("disk.raw");
    let mut file = File::create(&path).unwrap();
    // More than all buffers between the file and the cloud hold.
    file.write_all(&vec![1; 64 << 20]).unwrap();
    fake.world.lock().upload.hold = true;
    let refused = thread::scope(|scope| {
        let import = scope.spawn(|| import(&user, &path).refused());
        eventually("the upload", || !fake.world.lock().upload.received.is_empty());
        file.set_len(1 << 20).unwrap();
        fake.world.lock().upload.hold = false;
        import.join().unwrap()
    });
    assert!(refused.contains("disk.raw: it has become shorter meanwhile\n"), "{refused}");
}

#[test]
fn only_files_are_sent() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let refused = import(&user, user.home.path()).refused();
    assert!(refused.contains("is not a file with something in it"), "{refused}");
    let refused = import(&user, &user.home.path().join("none")).refused();
    assert!(refused.contains("none: No such file or directory"), "{refused}");
}
