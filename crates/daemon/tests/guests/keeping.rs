//! When sockets are opened, closed, and opened anew.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use cloud::model::Subnet;
use host::ErrorKind;
use spec::ids::SubnetId;
use tokio::time::sleep;

use crate::metadata::{get, status};
use crate::site::{IMPATIENCE, METADATA, Site, eventually, run};

/// Whether all is closed: then somebody else may listen.
fn is_free() -> bool {
    TcpListener::bind((METADATA, 80)).is_ok()
}

#[test]
fn sockets_are_open_exactly_while_a_network_is_wanted() {
    run(async || {
        let mut site = Site::new();
        sleep(IMPATIENCE).await;
        assert_eq!(site.loopback().tried, 0, "a cloud at rest has no sockets");

        site.loopback().trouble = Some(ErrorKind::NotFound);
        let (id, source) = site.launch();
        eventually("it was tried more than once", async || site.loopback().tried > 2).await;
        assert!(is_free());
        site.loopback().trouble = None;
        eventually("sockets are open", async || site.loopback().opened == 1).await;
        assert_eq!(status(&get(source, "/").await), "200");

        let (second, _) = site.launch();
        site.cloud.terminate(id);
        site.publish();
        eventually("the first is forgotten", async || get(source, "/").await.is_empty()).await;
        assert_eq!(site.loopback().opened, 1, "other views need no other sockets");

        // A connection in the middle of a request must not hold the namespace either.
        let address = site.cloud.interface(second).address;
        let _open = crate::metadata::connect(address).await;
        site.cloud.terminate(second);
        let began = Instant::now();
        site.publish();
        eventually("all is closed", async || is_free()).await;
        assert!(began.elapsed() < Duration::from_secs(1), "closed only after {:?}", began.elapsed());
    });
}

#[test]
fn sockets_of_the_past_are_opened_anew() {
    run(async || {
        let mut site = Site::new();
        let (_, source) = site.launch_and_serve().await;
        sleep(IMPATIENCE).await;
        assert_eq!(site.loopback().opened, 1);

        site.loopback().identity += 1;
        eventually("another namespace was noticed", async || site.loopback().opened == 2).await;
        eventually("it is served", async || status(&get(source, "/").await) == "200").await;

        let vpc = site.cloud.world.default_vpc().unwrap().id;
        let subnet = Subnet {
            id: SubnetId::from_random(99),
            vpc,
            cidr: "172.31.200.0/24".parse().unwrap(),
            zone: "us-east-1a".into(),
            is_default: false,
            map_public_ip_on_launch: false,
            tags: cloud::model::Tags::new(),
        };
        site.cloud.world.put(subnet.into());
        site.publish();
        eventually("another subnet was noticed", async || site.loopback().subnets == 4).await;
        eventually("it is served", async || status(&get(source, "/").await) == "200").await;
    });
}

#[test]
fn a_host_without_guests_is_left_alone() {
    run(async || {
        let mut site = Site::new();
        site.loopback().trouble = Some(ErrorKind::Unsupported);
        site.launch();
        eventually("it was tried", async || site.loopback().tried == 1).await;
        site.launch();
        sleep(IMPATIENCE).await;
        assert_eq!(site.loopback().tried, 1);
    });
}

#[test]
fn a_daemon_that_ends_takes_nothing_from_guests_and_the_next_one_finds_all() {
    run(async || {
        let mut site = Site::new();
        let (id, source) = site.launch_and_serve().await;
        let token = crate::metadata::token(source).await;
        let named = async |source| {
            let head = format!("X-aws-ec2-metadata-token: {token}\r\n");
            crate::metadata::ask(source, "GET", "/latest/meta-data/instance-id", &head).await
        };
        site.kill_daemon().await;
        sleep(IMPATIENCE).await;
        assert!(named(source).await.ends_with(&id.to_string()), "answered without a daemon");

        // What happens meanwhile is shown by the next one.
        let (_, second) = site.launch();
        assert_eq!(get(second, "/").await, "", "nobody has told of it yet");
        site.begin_daemon();
        eventually("the second is known", async || status(&get(second, "/").await) == "200").await;
        assert!(named(source).await.ends_with(&id.to_string()));
        assert_eq!(site.loopback().opened, 1, "the sockets that were open are good enough");

        // Nor does the next one leave open what is wanted no more.
        site.kill_daemon().await;
        let both: Vec<_> = site.cloud.world.instances.keys().copied().collect();
        both.into_iter().for_each(|id| site.cloud.terminate(id));
        site.publish();
        assert!(!is_free());
        site.begin_daemon();
        eventually("all is closed", async || is_free()).await;
    });
}
