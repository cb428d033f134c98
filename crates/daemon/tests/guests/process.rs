//! The process that answers guests as it is on a real host: another user's, with no rights, in a control group of its own.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, id};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use host::Error;
use host::linux::network::Networks;
use host::linux::services::Services;
use host::linux::sys::cgroup::Cgroups;
use tokio::task::block_in_place;

use crate::dns::start_upstream;
use crate::real::{GET_TOKEN, Real, metadata_options};
use crate::site::{Process, eventually, run, sh};

/// A user id that nobody has.
const USER: u32 = 2_000_000_300;

struct OwnProcess {
    services: Services,
    networks: Arc<Networks>,
}

impl Process for OwnProcess {
    fn connect(&self) -> Result<UnixStream, Error> {
        self.services.connect(&self.networks)
    }

    fn guard(&self) -> Result<(), Error> {
        self.services.guard(&self.networks)
    }

    fn end(&self) -> Result<(), Error> {
        self.services.end()
    }
}

/// Ends the process with the test.
struct Group(Cgroups);

impl Group {
    fn new() -> Self {
        Self(Cgroups::find(&format!("cumulet-guests-test-{}", id())).unwrap())
    }

    /// The one process in the group.
    fn process(&self) -> Option<PathBuf> {
        let processes = self.0.processes("guests").ok()?;
        let [one] = processes[..] else { return None };
        Some(format!("/proc/{one}").into())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ =
            self.0.kill("guests").and_then(|()| self.0.remove("guests")).and_then(|()| self.0.remove_all());
    }
}

/// Root of the whole machine, not of a user namespace, which may not become other users.
fn is_root() -> bool {
    fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

#[test]
fn it_has_no_rights_and_outlives_the_daemon_and_is_replaced_when_it_ends() {
    if !is_root() {
        return eprintln!("not tried: starting processes as other users needs root");
    }
    run(async || {
        start_upstream().await;
        // Processes are seen by their number in this namespace.
        let group = Group::new();
        let cgroups = group.0.clone();
        fs::create_dir_all("/run/process/logs").unwrap();
        let mut real = Real::with(|networks| {
            let (run, state) = ("/run/process/run".into(), "/run/process".into());
            let program = env!("CARGO_BIN_EXE_cumuletd").into();
            OwnProcess { services: Services::new(run, state, program, USER, cgroups), networks }
        });
        let (instance, guest) = real.launch(metadata_options(1)).await;
        let address = real.cloud.interface(instance).address;
        let is_served = || guest.instance_id() == Some(instance.to_string());
        block_in_place(|| {
            assert_eq!(guest.configure(), Some(address));
            assert!(is_served() && guest.http(GET_TOKEN).is_some());
            let outside = guest.resolve("example.com.").expect("an answer");
            assert_eq!(outside, (ResponseCode::NoError, Some(Ipv4Addr::new(192, 0, 2, 1))));
        });
        let process = group.process().expect("one process");
        has_no_rights(&process);
        sends_questions_only();

        sh("nft flush ruleset");
        real.restart_daemon().await;
        block_in_place(|| assert!(is_served(), "answered while no daemon listens"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        block_in_place(|| assert!(is_served() && guest.configure() == Some(address)));
        assert_eq!(group.process().as_ref(), Some(&process), "the next daemon found it");
        let bounded = async || sh("nft list ruleset").contains("skuid");
        eventually("it is bounded again", bounded).await;

        group.0.kill("guests").unwrap();
        let healed = async || block_in_place(|| is_served() && guest.configure() == Some(address));
        eventually("another process answers", healed).await;
        assert_ne!(group.process(), Some(process));
    });
}

fn has_no_rights(process: &std::path::Path) {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    let user = USER.to_string();
    assert_eq!((line("Uid"), line("Gid")), ([&user[..]; 4].join(" "), [&user[..]; 4].join(" ")));
    assert_eq!(line("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!((line("NoNewPrivs"), line("Seccomp")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(fs::read_dir(process.join("root")).unwrap().count(), 0, "it sees files");
    assert_eq!(fs::read_dir(process.join("task")).unwrap().count(), 2);
    for kind in ["mnt", "ipc", "uts"] {
        let of = |process: &std::path::Path| fs::read_link(process.join("ns").join(kind)).unwrap();
        assert_ne!(of(process), of("/proc/self".as_ref()), "{kind}");
    }
}

/// Whoever took over the process has its user, and gets no further by that.
fn sends_questions_only() {
    let listener = UdpSocket::bind("127.0.0.1:5353").unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let send = |to: &str, user: u32| {
        let script = format!("echo x > /dev/udp/{to}");
        let sent = Command::new("bash").args(["-c", &script]).uid(user).output().unwrap();
        sent.status.success()
    };
    let mut buffer = [0; 10];
    assert!(send("127.0.0.1/5353", USER + 1) && listener.recv(&mut buffer).is_ok(), "another user may");
    assert!(!send("127.0.0.1/5353", USER) && listener.recv(&mut buffer).is_err());
    assert!(send("127.0.0.2/53", USER), "a resolver may be asked");
}
