//! Raising what a running process may write (prlimit(2)).
#![allow(unsafe_code, reason = "the system call prlimit")]

use std::fs;
use std::io;
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::files::if_there;

/// Lets a process write files of at least `bytes` bytes, for which root needs `CAP_SYS_RESOURCE` where that is more than
/// it may already. Its limit only ever rises, so a process that took over the number of one that ended loses nothing.
/// One that is gone is fine.
pub fn allow_files_of(process: Pid, bytes: u64) -> io::Result<()> {
    let limits = if_there(fs::read_to_string(format!("/proc/{process}/limits")))?;
    if limits.is_none_or(|limits| largest_file(&limits).is_none_or(|now| now >= bytes)) {
        return Ok(());
    }
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the kernel reads one `rlimit`, ours, and is given nowhere to write.
    let result =
        unsafe { libc::prlimit(process.as_raw(), libc::RLIMIT_FSIZE, &raw const limit, ptr::null_mut()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The largest file that a process may write, in bytes, out of its table of limits (proc_pid_limits(5)); none where any.
fn largest_file(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file size"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_limit_is_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units\n\
                     Max file size             1073741824           1073741824           bytes\n";
        assert_eq!(largest_file(table), Some(1 << 30));
        assert_eq!(
            largest_file("Max file size             unlimited            unlimited            bytes\n"),
            None
        );
    }

    #[test]
    fn a_limit_rises_and_never_falls() {
        // The shell's own unit is 512 bytes.
        let mut child = Command::new("sh").args(["-c", "ulimit -f 100 && exec sleep 100"]).spawn().unwrap();
        let process = Pid::from_raw(child.id().try_into().unwrap());
        let limit = || largest_file(&fs::read_to_string(format!("/proc/{process}/limits")).unwrap());
        while limit().is_none() {
            std::thread::yield_now();
        }
        allow_files_of(process, 1).unwrap();
        assert_eq!(limit(), Some(51_200));
        match allow_files_of(process, 1 << 30) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("not tried: this takes CAP_SYS_RESOURCE");
            }
            result => {
                result.unwrap();
                assert_eq!(limit(), Some(1 << 30));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        allow_files_of(process, 1 << 40).unwrap(); // nobody is there any more
    }
}
