//! What a process cannot do that gave up what it had, on this machine's kernel.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use nix::libc;

use crate::world::{example, is_root};

fn confined(words: &[&str]) -> Output {
    Command::new(example("confined")).args(words).output().unwrap()
}

fn said(words: &[&str]) -> Vec<String> {
    let output = confined(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn it_has_no_files_no_neighbours_no_rights_and_no_network() {
    if !is_root() {
        return eprintln!("not tried: giving up what root has needs root");
    }
    let errors = |errors: &[i32]| errors.iter().map(|error| format!("Err({error})")).collect::<Vec<_>>();
    assert_eq!(said(&["files"]), errors(&[libc::ENOENT, libc::ENOENT, libc::EROFS, libc::EPERM]));
    assert_eq!(said(&["signals"]), errors(&[libc::EPERM; 4]));
    assert_eq!(said(&["network"]), errors(&[libc::ENETUNREACH; 2]));
}

#[test]
fn it_dies_of_a_system_call_that_it_has_no_use_for() {
    if !is_root() {
        return;
    }
    assert_eq!(said(&["call", "none"]), ["done"]);
    for name in ["open", "socket", "kill", "exec", "thread", "code"] {
        let output = confined(&["call", name]);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{name}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}
