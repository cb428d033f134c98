//! For tests that run the monitor: its program, whether it can run here, and launching with descriptors.
#![allow(unsafe_code, reason = "giving a child its descriptors by number")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The monitor's program, standard input from nowhere.
pub(crate) fn monitor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cumulet-vmm"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether KVM runs guests here; says why not.
pub(crate) fn kvm_works() -> bool {
    let usable = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &usable {
        println!("skipped: /dev/kvm cannot be opened: {error}");
    }
    usable.is_ok()
}

/// Has the monitor inherit these descriptors, by name, as a launcher does.
pub(crate) fn give(command: &mut Command, descriptors: Vec<(String, OwnedFd)>) {
    let names: Vec<_> = descriptors.iter().map(|(name, _)| name.clone()).collect();
    command.env(spec::machine::descriptors::VARIABLE, names.join(":"));
    let first = spec::machine::descriptors::FIRST;
    let clear: RawFd = 100;
    // SAFETY: between fork and exec only `dup2` and `close` are called. All are first moved out of the
    // way of each other.
    unsafe {
        command.pre_exec(move || {
            for (at, (_, descriptor)) in (clear..).zip(&descriptors) {
                libc::dup2(descriptor.as_raw_fd(), at);
            }
            for (number, from) in (first..).zip(clear..).take(descriptors.len()) {
                libc::dup2(from, number);
                libc::close(from);
            }
            Ok(())
        });
    }
}

/// Has the system refuse the monitor's writes beyond so many bytes of a file.
pub(crate) fn limit_files(command: &mut Command, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `setrlimit` may be called between fork and exec, and reads one `rlimit`, ours.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}
