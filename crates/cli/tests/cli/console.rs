//! `cumulet console`: on a terminal, and elsewhere.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};

use ec2::shapes::instances::InstanceStateName::Running;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::fake::Fake;
use crate::user::{Ran, User, eventually};

fn cloud() -> (Fake, User) {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.instance("i-00000000000000001", "web", Running);
    (fake, user)
}

/// What a person at a terminal sees until it shows `text`.
fn read_until(terminal: &mut File, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 256];
    while !seen.contains(text) {
        let length = terminal.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    seen
}

fn at_a_terminal(user: &User) -> (Child, File, File) {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let terminal = || Stdio::from(slave.try_clone().unwrap());
    let mut command = user.command(&["console", "web"]);
    let child = command.stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().unwrap();
    (child, master.into(), slave.into())
}

#[test]
fn every_key_reaches_the_guest_but_the_one_that_leaves() {
    let (_fake, user) = cloud();
    let (mut child, mut keyboard, terminal) = at_a_terminal(&user);
    let echoes = || tcgetattr(&terminal).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ISIG);
    assert!(echoes());
    let seen = read_until(&mut keyboard, "login: ");
    assert!(seen.contains("Ctrl-] leaves"), "{seen}");
    assert!(!echoes(), "the terminal is raw");
    // Ctrl-C, Ctrl-D and Ctrl-Z are the guest's.
    keyboard.write_all(b"ab\x03\x04\x1ac").unwrap();
    read_until(&mut keyboard, "AB\u{3}\u{4}\u{1a}C");
    keyboard.write_all(b"x\x1dnot sent").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(echoes(), "the terminal is as it was");
}

#[test]
fn the_terminal_comes_back_when_the_guest_or_a_signal_ends_it() {
    let (_fake, user) = cloud();
    for signalled in [false, true] {
        let (mut child, mut keyboard, terminal) = at_a_terminal(&user);
        read_until(&mut keyboard, "login: ");
        if signalled {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        } else {
            keyboard.write_all(b"bye").unwrap();
            read_until(&mut keyboard, "was closed at the other end.");
        }
        assert!(child.wait().unwrap().success());
        assert!(tcgetattr(&terminal).unwrap().local_flags.contains(LocalFlags::ECHO));
    }
}

#[test]
fn without_a_terminal_it_is_a_stream() {
    let (_fake, user) = cloud();
    let mut command = user.command(&["console", "web"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What leaves on a terminal is a byte like any other here.
    child.stdin.take().unwrap().write_all(b"root\x1dbye").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.stderr, "The console of i-00000000000000001 was closed at the other end.\n");
    assert_eq!(ran.ok(), "login: ROOT\u{1d}BYE");
}

#[test]
fn watching_goes_on_though_nobody_types() {
    let (_fake, user) = cloud();
    let mut child = user.command(&["console", "web"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"login: ");
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    eventually("its end", || child.try_wait().unwrap().is_some());
}

#[test]
fn the_log_is_printed_as_it_is() {
    let (fake, user) = cloud();
    let ran = user.run(&["console", "web", "--log"]);
    assert_eq!(ran.stderr, "i-00000000000000001 has said nothing yet.\n");
    assert_eq!(ran.ok(), "");
    fake.world.lock().console = b"\x1b[1mLinux\r\n\x00login: ".to_vec();
    assert_eq!(user.run(&["console", "web", "--log"]).ok(), "\x1b[1mLinux\r\n\x00login: ");
}
