//! Guests that do their worst, and others beside them that must not notice.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::dns::{ask_for, client, question, read, start_upstream};
use crate::metadata::{connect, get, status, talk};
use crate::site::{PATIENCE, Site, run};

/// What a neighbour of a hostile guest may wait for an answer; it takes a hundredth of that when nobody disturbs.
const UNDISTURBED: Duration = Duration::from_secs(2);

async fn assert_served(guest: Ipv4Addr) {
    let began = Instant::now();
    assert_eq!(status(&get(guest, "/latest/meta-data/").await), "200");
    assert!(began.elapsed() < UNDISTURBED, "the neighbour waited {:?}", began.elapsed());
}

/// How long the host's resolver is waited for, at least.
const WAITED_IN_VAIN: Duration = Duration::from_secs(4);

/// A site with a hostile guest and a neighbour.
async fn two_guests() -> (Site, Ipv4Addr, Ipv4Addr) {
    let mut site = Site::new();
    let (_, hostile) = site.launch_and_serve().await;
    let (_, neighbour) = site.launch();
    crate::site::eventually("both are served", async || status(&get(neighbour, "/").await) == "200").await;
    (site, hostile, neighbour)
}

#[test]
fn connections_that_say_nothing_use_up_their_own_guests_places_only() {
    run(async || {
        let (_site, hostile, neighbour) = two_guests().await;
        let mut slow: Vec<TcpStream> = Vec::new();
        for _ in 0..200 {
            let mut stream = connect(hostile).await;
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await;
            slow.push(stream);
        }
        assert_served(neighbour).await;
        let mut hung_up = 0;
        for stream in &mut slow {
            let read = timeout(Duration::from_millis(20), stream.read_u8()).await;
            hung_up += usize::from(read.is_ok());
        }
        assert!((180..200).contains(&hung_up), "{hung_up} of 200 were hung up on");
        drop(slow);
        crate::site::eventually("the places are free again", async || {
            status(&get(hostile, "/").await) == "200"
        })
        .await;
    });
}

#[test]
fn a_head_may_be_neither_long_nor_slow() {
    run(async || {
        let (_site, hostile, neighbour) = two_guests().await;
        let long_header = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
        let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500));
        for request in [long_header, long_path, many] {
            let answer = talk(&mut connect(hostile).await, &request).await;
            assert!(["431", "414", "none"].contains(&status(&answer)), "{answer}");
        }
        assert_eq!(
            status(&talk(&mut connect(hostile).await, "\x16\x03\x01\x02\x00\x01\r\n\r\n").await),
            "400"
        );
        let body = "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n";
        let mut endless = connect(hostile).await;
        endless.write_all(body.as_bytes()).await.unwrap();
        let filler = [0; 65_536];
        let sending = async { while endless.write_all(&filler).await.is_ok() {} };
        timeout(PATIENCE, sending).await.expect("a body without an end is not read to its end");
        assert_served(neighbour).await;

        let mut slow = connect(hostile).await;
        let began = Instant::now();
        let drip = async {
            while slow.write_all(b"G").await.is_ok() {
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(PATIENCE, drip).await.expect("a head that drips is not waited for");
        assert!(began.elapsed() > Duration::from_secs(5), "hung up on already after {:?}", began.elapsed());
    });
}

#[test]
fn requests_are_answered_at_their_guests_rate() {
    run(async || {
        let (_site, hostile, neighbour) = two_guests().await;
        let requests = "GET /latest/meta-data/ami-id HTTP/1.1\r\n\r\n".repeat(3000);
        let last = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        let began = Instant::now();
        let mut stream = connect(hostile).await;
        let flooding = tokio::spawn(async move {
            let (mut answers, mut questions) = stream.split();
            let mut text = String::new();
            let asking = async { questions.write_all(format!("{requests}{last}").as_bytes()).await };
            let (asked, read) = tokio::join!(asking, answers.read_to_string(&mut text));
            asked.and(read).unwrap();
            text.matches("HTTP/1.1 200").count()
        });
        assert_served(neighbour).await;
        assert_eq!(flooding.await.unwrap(), 3001);
        // A bucket of 1024 first, then 1024 a second.
        assert!(began.elapsed() > Duration::from_millis(1900), "all answered after {:?}", began.elapsed());
    });
}

#[test]
fn a_flood_of_questions_is_answered_at_its_guests_rate() {
    run(async || {
        start_upstream().await;
        let (_site, hostile, neighbour) = two_guests().await;
        let flood = client(hostile).await;
        let flooding = tokio::spawn(async move {
            let question = question(7, "instance-data.ec2.internal.");
            let began = Instant::now();
            let mut answers = 0_u32;
            while began.elapsed() < Duration::from_secs(2) {
                for _ in 0..50 {
                    let _ = flood.try_send(&question);
                }
                while flood.try_recv(&mut [0; 512]).is_ok() {
                    answers += 1;
                }
                tokio::task::yield_now().await;
            }
            answers
        });
        let socket = client(neighbour).await;
        let mut waited = Vec::new();
        for id in 0..10 {
            let began = Instant::now();
            let name = if id % 2 == 0 { "instance-data.ec2.internal." } else { "example.com." };
            // A datagram may be lost in a full queue; guests ask again, too.
            let mut answer = None;
            while answer.is_none() {
                answer = crate::dns::ask(&socket, &question(id, name), Duration::from_millis(500)).await;
            }
            assert_eq!(read(&answer.unwrap()).0, ResponseCode::NoError);
            waited.push(began.elapsed());
            assert_served(neighbour).await;
            sleep(Duration::from_millis(100)).await;
        }
        waited.sort();
        assert!(waited[5] < UNDISTURBED, "the neighbour waited {waited:?}");
        let answers = flooding.await.unwrap();
        // A bucket of 1024, and what came into it in the two seconds and a bit.
        assert!((500..4000).contains(&answers), "{answers} answers to the flood");
    });
}

#[test]
fn questions_that_nobody_answers_use_up_their_own_guests_places_only() {
    run(async || {
        start_upstream().await;
        let (_site, hostile, neighbour) = two_guests().await;
        let flood = client(hostile).await;
        let began = Instant::now();
        for id in 0..100 {
            flood.send(&question(id, "silent.example.com.")).await.unwrap();
        }
        let answer = ask_for(&client(neighbour).await, 1, "example.com.").await;
        assert_eq!(answer.0, ResponseCode::NoError);
        assert!(began.elapsed() < UNDISTURBED, "the neighbour waited {:?}", began.elapsed());
        // Those beyond its places are told at once, the others when the host's resolver has been waited for in vain.
        let mut buffer = [0; 512];
        for nth in 0..100 {
            let length =
                timeout(PATIENCE, flood.recv(&mut buffer)).await.expect("every question is answered");
            assert_eq!(read(&buffer[..length.unwrap()]).0, ResponseCode::ServFail);
            let waited = began.elapsed() >= WAITED_IN_VAIN;
            assert_eq!(waited, nth >= 100 - 32, "answer {nth} after {:?}", began.elapsed());
        }
    });
}
