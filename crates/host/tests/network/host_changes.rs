//! What is changed on the host itself, and that all of it is undone.

use std::net::{SocketAddrV4, TcpListener};

use host::linux::network::Networks;
use host::{Error, ErrorKind};
use spec::network::Network;

use crate::linux_guest::{LinuxGuest, PATIENCE, serve};
use crate::snapshot;
use crate::world::{
    HOST, INTERNET, STATE, add_internet, begin, enter, interface, network_with_gateway, observe, open_group,
    public_address, sh, sh_in, with_public,
};

/// A VPC with a guest that should have a way out.
fn stage(networks: &Networks) -> (Network, LinuxGuest) {
    let network = network_with_gateway(1);
    networks.ensure_network(&network).unwrap();
    networks.ensure_group(&open_group(1, 1)).unwrap();
    let interface = with_public(interface(&network, 0, 10, &[1]), 7);
    networks.ensure_interface(&interface).unwrap();
    let guest = LinuxGuest::new(networks, &interface);
    (network, guest)
}

fn serve_internet() {
    let internet = host::linux::sys::netns::Namespace::open("internet").unwrap().unwrap();
    serve(internet.run(|| TcpListener::bind((INTERNET, 80)).unwrap()).unwrap());
}

/// Foreign chains through which nothing passes that they do not know, as others set them up.
const FIREWALLS: [(&str, &str); 4] = [
    (
        "Docker",
        "nft add table ip filter
         nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'
         nft add chain ip filter DOCKER-USER
         nft add rule ip filter DOCKER-USER counter return
         nft add rule ip filter FORWARD counter jump DOCKER-USER",
    ),
    (
        "ufw",
        "nft add table ip filter
         nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'
         nft add chain ip filter ufw-before-forward
         nft add rule ip filter FORWARD counter jump ufw-before-forward",
    ),
    (
        "firewalld",
        "nft add table inet firewalld
         nft add chain inet firewalld filter_FORWARD '{ type filter hook forward priority 10; policy accept; }'
         nft add rule inet firewalld filter_FORWARD ct state established,related accept
         nft add rule inet firewalld filter_FORWARD reject with icmpx type admin-prohibited",
    ),
    ("none", ":"),
];

#[test]
fn others_forward_chains_let_instances_pass_until_teardown() {
    let networks = begin();
    add_internet();
    serve_internet();
    for (name, script) in FIREWALLS {
        sh(script);
        let before = snapshot::take();
        let (network, guest) = stage(&networks);
        assert_eq!(guest.ask_tcp(INTERNET, 80), HOST, "with {name}");
        drop(guest);
        let marks: Vec<_> = observe(&networks).networks.into_values().collect();
        assert!(marks[0].is_some(), "{name}");
        let rules = sh("nft list ruleset");
        networks.ensure_network(&network).unwrap();
        assert_eq!(sh("nft list ruleset"), rules, "said once, with {name}");

        let (done, result) = Networks::teardown(STATE);
        result.unwrap();
        assert!(done.iter().any(|deed| deed.contains("cumulet-vpc-")), "{done:?}");
        let left = snapshot::take();
        let changed: Vec<_> =
            left.symmetric_difference(&before).filter(|fact| !fact.contains("ip_forward")).collect();
        assert!(changed.is_empty(), "with {name}: {changed:#?}");
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1", "left on: others may rely on it");
        sh("nft flush ruleset");
    }
}

#[test]
fn teardown_needs_nobody_and_leaves_nothing() {
    enter();
    add_internet();
    sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
    let before = snapshot::take();
    let networks = Networks::new(STATE).unwrap();
    assert_eq!(snapshot::take(), before, "a look at what the machine can do leaves no trace");
    let (network, guest) = stage(&networks);
    networks.ensure_network(&network_with_gateway(2)).unwrap();
    let sockets = networks.guest_sockets(&network).unwrap();
    assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    drop(networks);

    // A machine and a daemon that still run hold on to the namespace, but nothing of it can be reached any
    // more.
    let held = Networks::teardown(STATE);
    held.1.unwrap();
    assert_eq!(snapshot::take(), before);
    assert_eq!(std::fs::read_dir(STATE).unwrap().count(), 0, "the note is gone, too");
    drop((sockets, guest));
    let (done, result) = Networks::teardown(STATE);
    result.unwrap();
    assert_eq!(done, [""; 0], "there is nothing left to do");
}

#[test]
fn a_note_from_before_is_kept_by_those_who_come_later() {
    enter();
    sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
    Networks::new(STATE).unwrap().ensure_network(&network_with_gateway(1)).unwrap();
    // Another daemon finds forwarding on; it must not take that for how things were.
    Networks::new(STATE).unwrap().ensure_network(&network_with_gateway(1)).unwrap();
    let (done, _) = Networks::teardown(STATE);
    assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "0", "{done:?}");
}

#[test]
fn a_namespace_starts_clean_whatever_the_host_is_like() {
    enter();
    for setting in ["rp_filter", "send_redirects", "arp_ignore", "proxy_arp", "accept_redirects"] {
        for scope in ["all", "default"] {
            sh(&format!("echo 1 > /proc/sys/net/ipv4/conf/{scope}/{setting}"));
        }
    }
    add_internet();
    serve_internet();
    let networks = Networks::new(STATE).unwrap();
    let (network, guest) = stage(&networks);
    assert_eq!(guest.ask_tcp(INTERNET, 80), HOST);
    guest.serve_tcp(8080);
    assert_eq!(guest.ask_tcp(public_address(7), 8080), public_address(7));
    let sockets = networks.guest_sockets(&network).unwrap();
    guest.run(|| std::net::TcpStream::connect_timeout(&([169, 254, 169, 254], 80).into(), PATIENCE).unwrap());
    guest.serve_tcp(80);
    networks.connect(network.vpc, SocketAddrV4::new(guest.address, 80), PATIENCE).unwrap();
    assert_eq!(sh_in(network.vpc, "cat /proc/sys/net/ipv6/conf/all/disable_ipv6").trim(), "1");
    drop(sockets);
}

#[test]
fn what_is_missing_is_said_with_the_remedy() {
    enter();
    // A folder without nft in front of all others would be the whole process's; so /usr/sbin is hidden from
    // this world.
    let hide = |path: &str| sh(&format!("test -e {path} && mount --bind /dev/null {path} || true"));
    hide("/usr/sbin/nft");
    hide("/usr/local/sbin/nft");
    let error: Error = Networks::new(STATE).err().expect("there is no nft");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.chain().contains("\"nftables\""), "{}", error.chain());
}
