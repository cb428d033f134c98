//! The walls around a monitor, tried from inside: each attempt of `--escape` ends it where the filter of system calls is on,
//! and is refused by the walls behind where it is off.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use spec::control::EndReason;
use vmm_sys_util::tempdir::TempDir;

use crate::support::monitor;

const WAYS: [&str; 10] =
    ["read", "write", "proc", "trace", "signal", "tcp", "udp", "execute", "fork", "mount"];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_forbidden_call_ends_the_process_and_is_named() {
    for way in WAYS {
        let output = monitor().args(["--escape", way]).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(EndReason::Failed.exit_status().into()), "{way}: {said}");
        let forbidden = "cumulet-vmm: The monitor made a system call that its sandbox forbids (supervisor ";
        assert!(said.starts_with(forbidden), "{way}: {said}");
    }
}

#[test]
fn many_threads_do_nothing_that_is_forbidden() {
    let output = monitor().args(["--escape", "threads"]).output().unwrap();
    assert_eq!(said(&output), "cumulet-vmm: the attempt succeeded\n");
}

/// As it is launched: another user, with the one capability by which it leaves the host.
fn launched(way: &str, program: &Path) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=64123", "--regid=64123", "--clear-groups"]);
    command.args(["--inh-caps=+sys_admin", "--ambient-caps=+sys_admin", "--"]);
    command.arg(program).args(["--escape", &format!("{way},unfiltered")]).output().unwrap()
}

#[test]
fn behind_the_filter_stand_other_walls() {
    if !fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        println!("skipped: only root can give a process what a launcher gives it");
        return;
    }
    // Where every user can reach it.
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.as_path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.as_path().join("monitor");
    fs::copy(env!("CARGO_BIN_EXE_cumulet-vmm"), &program).unwrap();
    for (way, answer) in [
        ("read", "No such file or directory"),
        ("write", "No such file or directory"),
        ("proc", "No such file or directory"),
        ("execute", "No such file or directory"),
        ("trace", "Operation not permitted"),
        ("signal", "Operation not permitted"),
        ("mount", "Operation not permitted"),
        ("udp", "Network is unreachable"),
    ] {
        let output = launched(way, &program);
        let said = said(&output);
        assert!(output.status.success() && said.contains(answer), "{way}: {:?}: {said}", output.status);
    }
    // A kernel whose landlock knows of networks refuses before the namespace does.
    let tcp = launched("tcp", &program);
    assert!(tcp.status.success(), "{}", said(&tcp));
}
