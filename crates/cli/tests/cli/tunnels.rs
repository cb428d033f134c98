//! `cumulet connect`, `ssh` and `forward`: bytes to guests and back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ec2::shapes::instances::InstanceStateName::{Pending, Running, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::Fake;
use crate::user::{Ran, User, eventually};

const ID: &str = "i-00000000000000001";

/// A port that a guest listens on: each connection is served by `serve`.
fn guest(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Greets at once; then, when all has been said, says it back and how much it was.
fn greet_then_echo(mut stream: TcpStream) {
    let mut said = Vec::new();
    let _ = stream.write_all(b"SSH-2.0-guest\r\n").and_then(|()| stream.read_to_end(&mut said));
    let _ = stream.write_all(&said).and_then(|()| write!(stream, "{} bytes", said.len()));
}

/// A cloud with one running instance, whose port 22 is served so.
fn cloud(serve: fn(TcpStream)) -> (Fake, User) {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.instance(ID, "web", Running);
    fake.world.lock().guests.insert((ID.into(), 22), guest(serve));
    (fake, user)
}

fn pipe(user: &User, arguments: &[&str]) -> Child {
    user.command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn connect_carries_both_ways_and_passes_the_end_of_one_on() {
    let (_fake, user) = cloud(greet_then_echo);
    let said: Vec<u8> =
        (0..5_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut child = pipe(&user, &["connect", ID, "22"]);
    let mut stdin = child.stdin.take().unwrap();
    let to_say = said.clone();
    let saying = thread::spawn(move || stdin.write_all(&to_say));
    let output = child.wait_with_output().unwrap();
    saying.join().unwrap().unwrap();
    let expected = [&b"SSH-2.0-guest\r\n"[..], &said, b"5000000 bytes"].concat();
    assert!(
        output.status.success() && output.stdout == expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn connect_holds_nothing_back() {
    let (_fake, user) = cloud(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..length]);
        }
    });
    let mut child = pipe(&user, &["connect", ID, "22"]);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // Each line is said only when the one before was heard, as the two sides of ssh talk.
    let (done, talked) = mpsc::channel();
    thread::spawn(move || {
        for number in 0..50_u8 {
            let line = vec![number; 100 + usize::from(number) * 17];
            stdin.write_all(&line).unwrap();
            let mut heard = vec![0; line.len()];
            stdout.read_exact(&mut heard).unwrap();
            assert_eq!(heard, line);
        }
        done.send(()).unwrap();
    });
    let talked = talked.recv_timeout(Duration::from_secs(10));
    if talked.is_err() {
        child.kill().unwrap();
    }
    assert_eq!(talked, Ok(()));
    assert!(child.wait().unwrap().success());
}

#[test]
fn connect_closes_stdout_when_the_guest_has_said_all_and_still_sends() {
    // Says goodbye at once, and tells us by another way what it hears afterwards.
    let (_fake, user) = cloud(|mut stream| {
        let _ = stream.write_all(b"bye").and_then(|()| stream.shutdown(Shutdown::Write));
        let mut heard = String::new();
        let _ = stream.read_to_string(&mut heard);
        let (path, text) = heard.split_once(' ').unwrap();
        std::fs::write(path, text).unwrap();
    });
    let mut child = pipe(&user, &["connect", ID, "22"]);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "bye");
    let heard = user.home.path().join("heard");
    write!(child.stdin.take().unwrap(), "{} after the end", heard.display()).unwrap();
    assert!(child.wait().unwrap().success());
    eventually("the guest's hearing", || {
        std::fs::read_to_string(&heard).is_ok_and(|text| text == "after the end")
    });
}

#[test]
fn connect_waits_for_a_guest_that_boots_only_as_long_as_it_is_told() {
    let (fake, user) = cloud(greet_then_echo);
    fake.world.lock().refusals = 2;
    let ran = user.run(&["connect", "--wait", "30", ID, "22"]);
    assert_eq!(ran.stderr, format!("Waiting up to 30 s for {ID} to accept connections on port 22\n"));
    assert_eq!(ran.ok(), "SSH-2.0-guest\r\n0 bytes");

    fake.world.lock().refusals = 1;
    let refused = user.run(&["connect", ID, "22"]).refused();
    assert!(refused.contains("does not listen on 22 (GuestNotReachable)\nhint: look at what the guest says"));
}

/// A folder with an `ssh` that shows its arguments, talks through its proxy, and ends with 7.
fn pretended_ssh(user: &User) -> std::ffi::OsString {
    let folder = user.home.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let script = r#"#!/bin/sh
printf '%s\n' "$@" > "$HOME/arguments"
for word; do case "$word" in ProxyCommand=*) proxy="${word#ProxyCommand=}";; esac; done
sh -c "exec $proxy"
exit 7
"#;
    std::fs::write(folder.join("ssh"), script).unwrap();
    std::fs::set_permissions(folder.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

fn ssh(user: &User, arguments: &[&str]) -> Ran {
    let mut command = user.command(&["ssh"]);
    Ran::of(command.args(arguments).env("PATH", pretended_ssh(user)).output().unwrap())
}

#[test]
fn ssh_talks_through_the_tunnel_and_its_status_is_ours() {
    let (fake, user) = cloud(greet_then_echo);
    fake.world.lock().describes_until_running = 2;
    fake.world.lock().instances[0].instance_state = Pending.into();
    let ran = ssh(&user, &["web", "-i", "my key.pem", "-o", "ForwardAgent=yes", "--", "uname", "-r; id"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(7), "SSH-2.0-guest\r\n0 bytes"), "{}", ran.stderr);
    assert!(ran.stderr.starts_with(&format!("Waiting for {ID} to run\n")), "{}", ran.stderr);
    let arguments = std::fs::read_to_string(user.home.path().join("arguments")).unwrap();
    let known_hosts = user.home.path().join(".local/state/cumulet/known_hosts");
    let expected = [
        &format!("HostKeyAlias={ID}\n"),
        "StrictHostKeyChecking=accept-new\n",
        &format!("UserKnownHostsFile=\"{}\"\n", known_hosts.display()),
        "ForwardAgent=yes\n",
        "-i\nmy key.pem\n",
        &format!("-l\nadmin\n{ID}\n--\nuname\n-r; id\n"),
    ];
    for words in expected {
        assert!(arguments.contains(words), "{words} in {arguments}");
    }
}

#[test]
fn ssh_uses_the_users_own_key_for_an_instance_that_has_it() {
    let (fake, user) = cloud(greet_then_echo);
    fake.world.lock().images = vec![ec2::shapes::images::Image { name: "tiny".into(), ..Default::default() }];
    user.run(&["run", "tiny"]).ok();
    let own = fake.world.lock().launches[0].key_name.clone();
    fake.world.lock().instances.truncate(1);
    ssh(&user, &["web"]);
    let arguments = || std::fs::read_to_string(user.home.path().join("arguments")).unwrap();
    assert!(!arguments().contains("-i\n"), "{}", arguments());
    fake.world.lock().instances[0].key_name = own;
    ssh(&user, &["web"]);
    let key = user.home.path().join(".local/share/cumulet/ssh/id_ed25519");
    assert!(
        arguments().contains(&format!("-i\n{}\n-o\nIdentitiesOnly=yes\n", key.display())),
        "{}",
        arguments()
    );
}

#[test]
fn ssh_is_refused_where_it_cannot_succeed() {
    let (fake, user) = cloud(greet_then_echo);
    fake.world.lock().groups[0].ip_permissions.clear();
    let refused = ssh(&user, &["web"]).refused();
    assert!(refused.contains(&format!("No security group of {ID} lets TCP port 22 in\n")), "{refused}");
    assert!(
        refused.contains("hint: aws ec2 authorize-security-group-ingress --group-id sg-00000001"),
        "{refused}"
    );

    fake.world.lock().instances[0].instance_state = Stopped.into();
    let refused = ssh(&user, &["web"]).refused();
    let expected = format!("cumulet: {ID} is stopped\nhint: cumulet start {ID}\n");
    assert_eq!(refused, expected);

    let refused = Ran::of(user.command(&["ssh", "web"]).env("PATH", "/nonexistent").output().unwrap());
    assert!(refused.refused().contains("is stopped"));
}

/// A `cumulet forward` that was started, where it listens, and what it says.
struct Forward {
    child: Child,
    urls: BufReader<ChildStdout>,
    here: SocketAddr,
}

impl Forward {
    fn start(user: &User, there: u16) -> Self {
        let mut child = pipe(user, &["forward", "web", &format!("0:{there}")]);
        let mut urls = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        urls.read_line(&mut url).unwrap();
        let here = url.trim().strip_prefix("http://").and_then(|url| url.strip_suffix('/'));
        let here = here.unwrap_or_else(|| panic!("a URL, not {url:?}")).parse().unwrap();
        Self { child, urls, here }
    }

    fn interrupt(mut self) -> Ran {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        let mut rest = String::new();
        self.urls.read_to_string(&mut rest).unwrap();
        Ran::of(self.child.wait_with_output().unwrap())
    }
}

/// Says all of `said` and hears all of the answer.
fn converse(here: SocketAddr, said: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(here)?;
    stream.write_all(said)?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    Ok(heard)
}

#[test]
fn forward_carries_many_connections_and_a_slow_one_holds_up_none() {
    let (_fake, user) = cloud(greet_then_echo);
    let forward = Forward::start(&user, 22);
    let here = forward.here;
    // Reads nothing of a lot that it is sent.
    let mut slow = TcpStream::connect(here).unwrap();
    slow.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let _ = slow.write_all(&vec![0; 64 << 20]);
    let many: Vec<_> = (0..100)
        .map(|number| {
            thread::spawn(move || {
                let said = vec![number; 100_000];
                let expected = [&b"SSH-2.0-guest\r\n"[..], &said, b"100000 bytes"].concat();
                converse(here, &said).is_ok_and(|heard| heard == expected)
            })
        })
        .collect();
    let whole = many.into_iter().map(|one| one.join().unwrap()).filter(|whole| *whole).count();
    assert_eq!(whole, 100);
    drop(slow);
    let ran = forward.interrupt();
    assert_eq!(ran.status, Some(0));
    assert!(ran.stderr.contains(&format!("Forwarding {here} to port 22 of {ID}\n")), "{}", ran.stderr);
}

#[test]
fn forward_outlives_a_guest_that_is_not_there_and_a_daemon_that_is_gone() {
    let (fake, user) = cloud(greet_then_echo);
    let port = fake.world.lock().guests[&(ID.into(), 22)];
    let forward = Forward::start(&user, 80);
    let refused = converse(forward.here, b"GET /").unwrap_or_default();
    assert!(refused.is_empty(), "nobody listens on port 80 yet");
    let address = fake.address;
    drop(fake);
    assert!(converse(forward.here, b"GET /").unwrap_or_default().is_empty(), "the daemon is gone");

    let fake = Fake::start_at(address);
    fake.world.lock().guests.insert((ID.into(), 80), port);
    assert_eq!(converse(forward.here, b"").unwrap(), b"SSH-2.0-guest\r\n0 bytes");
    let ran = forward.interrupt();
    assert!(ran.stderr.contains("does not listen on 80 (GuestNotReachable)"), "{}", ran.stderr);
    // Which of the two depends on how far the daemon's end had got.
    let gone =
        [format!("Could not connect to http://{address}: "), format!("to http://{address} broke off: ")];
    assert!(gone.iter().any(|text| ran.stderr.contains(text)), "{}", ran.stderr);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (_fake, user) = cloud(greet_then_echo);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = user.run(&["forward", "web", &format!("{port}:22")]).refused();
    assert!(
        refused.contains(&format!("Could not listen on 127.0.0.1:{port}: Address already in use")),
        "{refused}"
    );
    assert!(refused.contains("hint: another program has the port"), "{refused}");
}
