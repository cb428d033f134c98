//! Machines that stand still, that are written down, and that go on: paused, saved, restored.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spec::control::{Answer, EndReason, Request, Save};
use spec::machine::descriptors as names;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::code::Code;
use crate::guests::{Guest, Running};
use crate::support::{kvm_works, limit_files, monitor};

/// The exit status of a machine that cannot go on from what was saved.
const UNRESTORABLE: i32 = EndReason::Unrestorable.exit_status() as i32;

/// Says where it is, waits for somebody to type, says that it went on.
fn listener() -> Guest {
    Guest::new(&Code::default().print("1").wait_for_input().print("2").power_off())
}

/// Empty files to be saved in, in a folder of that name.
fn files(guest: &Guest, name: &str) -> Vec<OwnedFd> {
    fs::create_dir(guest.path(name)).unwrap();
    ["state", "memory"].map(|part| File::create_new(guest.path(name).join(part)).unwrap().into()).into()
}

fn save(machine: &mut Running, descriptors: &[OwnedFd], end: bool) {
    let named = [names::SAVED_STATE, names::SAVED_MEMORY].map(str::to_owned).to_vec();
    let line = serde_json::to_string(&Request::Save { end, descriptors: named }).unwrap() + "\n";
    let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    machine.control.get_ref().send_with_fds(&[line.as_bytes()], &numbers).unwrap();
}

/// Waits until the guest has printed this.
fn until_printed(machine: &mut Running, text: &str) {
    let mut printed = vec![0; text.len()];
    machine.child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(printed, text.as_bytes());
}

/// One that was saved, in the folder `saved`, with a source of randomness.
fn saved_listener() -> Guest {
    let guest = listener();
    let mut machine = Running::start(&guest, &["--entropy"]);
    until_printed(&mut machine, "1");
    let descriptors = files(&guest, "saved");
    save(&mut machine, &descriptors, true);
    machine.child.wait().unwrap();
    guest
}

/// A monitor with the guest's kernel, of 32 MiB, that can be typed to.
fn typed_to(guest: &Guest, options: &[&str]) -> Command {
    let mut command = monitor();
    command.arg("--kernel").arg(guest.path("kernel")).args(["--memory", "32"]).args(options);
    command.stdin(Stdio::piped());
    command
}

/// The same that can be asked, when the guest waits for a letter.
fn waiting(guest: &Guest, mut command: Command) -> Running {
    let child = command.arg("--control").arg(guest.path("control")).spawn().unwrap();
    let mut machine = Running::of(child, &guest.path("control"));
    until_printed(&mut machine, "1");
    machine
}

/// Goes on from the folder `saved`, and types a letter.
fn go_on(guest: &Guest, options: &[&str]) -> Child {
    let mut child = typed_to(guest, options).arg("--restore").arg(guest.path("saved")).spawn().unwrap();
    // One that does not go on does not listen either.
    let _ = child.stdin.as_mut().unwrap().write_all(b"x");
    child
}

/// Whether a monitor ends with this status for a reason that it gives.
fn is_reason(status: i32) -> bool {
    use EndReason::*;
    let reasons = [PoweredOff, Saved, Crashed, Unbuildable, Unrestorable, Failed];
    reasons.iter().any(|reason| i32::from(reason.exit_status()) == status)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_machine_goes_on_where_it_was_saved() {
    if !kvm_works() {
        return;
    }
    let guest = listener();
    let mut machine = Running::start(&guest, &["--cpus", "2", "--entropy", "--balloon", "--ports", "2"]);
    until_printed(&mut machine, "1");
    let descriptors = files(&guest, "saved");
    save(&mut machine, &descriptors, true);
    let status = machine.child.wait().unwrap();
    let mut said = String::new();
    machine.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said, "cumulet-vmm: The machine was saved, to go on later\n");
    let memory = fs::metadata(guest.path("saved").join("memory")).unwrap();
    assert_eq!(memory.len(), 32 << 20);
    assert!(std::os::unix::fs::MetadataExt::blocks(&memory) * 512 < 8 << 20, "zeros were written");
    // As often as it is wanted: nothing of what it does then goes into its files.
    for _ in 0..2 {
        let options = ["--cpus", "2", "--entropy", "--balloon", "--ports", "2"];
        let output = go_on(&guest, &options).wait_with_output().unwrap();
        let (printed, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!((printed.as_str(), output.status.code()), ("2", Some(0)), "{said}");
        assert_eq!(said, "cumulet-vmm: The guest powered itself off\n");
    }
}

#[test]
fn what_was_saved_of_another_machine_is_refused() {
    if !kvm_works() {
        return;
    }
    let guest = saved_listener();
    fs::write(guest.path("disk"), [0; 4096]).unwrap();
    let disk = guest.path("disk").display().to_string();
    let refused = |options: &[&str], reason: &str| {
        let output = go_on(&guest, options).wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(UNRESTORABLE), "{options:?}: {said}");
        assert!(said.contains(reason) && said.lines().count() == 1, "{options:?}: {said}");
        assert!(output.stdout.is_empty());
    };
    refused(
        &["--entropy", "--memory", "64"],
        "A machine of 32 MiB and 1 vCPUs was saved, and this one has 64 and 1",
    );
    refused(
        &["--entropy", "--cpus", "2"],
        "A machine of 32 MiB and 1 vCPUs was saved, and this one has 32 and 2",
    );
    refused(&[], "It was saved from another machine: it had other devices");
    refused(&["--entropy", "--ports", "1"], "it had other devices");
    refused(&["--entropy", "--disk", &disk], "it had other disks or network interfaces");
    let memory = File::options().write(true).open(guest.path("saved").join("memory")).unwrap();
    memory.set_len(1 << 20).unwrap();
    refused(&["--entropy"], "The saved memory has 1048576 bytes instead of 33554432");
    memory.set_len(32 << 20).unwrap();
    let state = guest.path("saved").join("state");
    let whole = fs::read(&state).unwrap();
    for torn in [&whole[..0], &whole[..whole.len() / 2], b"{}", b"[]"] {
        fs::write(&state, torn).unwrap();
        refused(&["--entropy"], "The saved state is none");
    }
    // Of another form nothing else need be understood.
    let other = r#"{"form":1,"architecture":"x86_64"}"#;
    fs::write(&state, other).unwrap();
    refused(&["--entropy"], "The saved state has form 1 of x86_64, and this monitor reads form 2 of");
}

#[test]
fn a_saved_state_that_lies_ends_with_a_reason() {
    if !kvm_works() {
        return;
    }
    let guest = saved_listener();
    let state = guest.path("saved").join("state");
    let whole = fs::read(&state).unwrap();
    let (mut seed, mut refused) = (7_u64, 0);
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for _ in 0..40 {
        let mut lying = whole.clone();
        for _ in 0..=random(20) {
            let at = random(lying.len());
            if lying[at].is_ascii_digit() {
                lying[at] = b'0' + u8::try_from(random(10)).unwrap();
            }
        }
        fs::write(&state, &lying).unwrap();
        let mut child = go_on(&guest, &["--entropy"]);
        let begin = Instant::now();
        // It may well go on, or wait for ever for what never comes; what it may not is die without a word.
        while begin.elapsed() < Duration::from_millis(300) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        if let Some(status) = ended {
            assert!(status.code().is_some_and(is_reason), "{status}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        refused += usize::from(output.status.code() == Some(UNRESTORABLE));
    }
    assert!(refused > 0, "no lie was noticed");
}

#[test]
fn a_paused_machine_hears_nothing_until_it_goes_on() {
    if !kvm_works() {
        return;
    }
    let guest = listener();
    let mut machine = waiting(&guest, typed_to(&guest, &["--cpus", "2"]));
    for _ in 0..20 {
        machine.ask("\"pause\"");
        machine.until(|status| status.paused);
        machine.ask("\"resume\"");
        machine.until(|status| !status.paused);
    }
    machine.ask("\"pause\"");
    machine.until(|status| status.paused);
    machine.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    // It can be saved as it stands, and stands still after that.
    let descriptors = files(&guest, "saved");
    save(&mut machine, &descriptors, false);
    machine.until(|status| status.save == Some(Save::Done));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(machine.child.try_wait().unwrap(), None);
    machine.ask("\"resume\"");
    until_printed(&mut machine, "2");
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_machine_that_cannot_be_saved_goes_on() {
    if !kvm_works() {
        return;
    }
    let guest = listener();
    let mut command = typed_to(&guest, &[]);
    limit_files(&mut command, 1 << 20);
    let mut machine = waiting(&guest, command);
    let descriptors = files(&guest, "saved");
    save(&mut machine, &descriptors, true);
    let status = machine.until(|status| matches!(status.save, Some(Save::Failed(_))));
    let Some(Save::Failed(why)) = status.save else { panic!("it is just that") };
    assert!(why.starts_with("Cannot write the machine's memory: File too large"), "{why}");
    machine.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    until_printed(&mut machine, "2");
    assert_eq!(machine.child.wait().unwrap().code(), Some(0));
}

#[test]
fn who_names_no_files_is_refused() {
    if !kvm_works() {
        return;
    }
    let guest = listener();
    let mut machine = Running::start(&guest, &[]);
    until_printed(&mut machine, "1");
    machine.ask("\"save\",\"end\":true,\"descriptors\":[]");
    let mut line = String::new();
    loop {
        line.clear();
        std::io::BufRead::read_line(&mut machine.control, &mut line).unwrap();
        if let Answer::Refused { refused } = serde_json::from_str(&line).unwrap() {
            assert_eq!(refused, "The files to save the machine in were not named");
            return;
        }
    }
}
