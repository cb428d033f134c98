//! What happens to a thread that makes a call that it may not make: the process ends, and says which call it was.
//!
//! The kernel does not make the call but sends SIGSYS. The thread may be anywhere then, in the allocator too, and may be in
//! somebody else's hands: so all that is to be said is made beforehand, and the handler only fills in two words. Who
//! were to take the handler away has gained nothing; the signal ends the process then.
#![allow(unsafe_code, reason = "the handler of SIGSYS, and what may be called in one")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use spec::control::EndReason;
use vmm_sys_util::signal::register_signal_handler;

use super::filter::Kind;
use crate::exit;

/// Stands for the thread's kind and the number of the call.
const PLACE: &str = "????????????????";
/// The longest text that is filled in.
const MOST: usize = 512;

/// What is to be said, with [`PLACE`] in it.
struct LastWords {
    sentence: String,
    json: Vec<u8>,
    file: Option<File>,
}

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// Where the number of the call stands in `siginfo_t` of SIGSYS, in words of 32 bits: behind the signal's three numbers, a
/// gap, and the address of the call.
const CALL: usize = 6;

/// From now on a forbidden call ends the process with a reason.
pub(super) fn hear() -> io::Result<()> {
    let message = format!("The monitor made a system call that its sandbox forbids ({PLACE})");
    let (json, file) = exit::prepare(EndReason::Failed, &message)?;
    // A second call would be a mistake of ours, and would change nothing.
    let _ = LAST_WORDS.set(LastWords { sentence: format!("cumulet-vmm: {message}\n"), json, file });
    register_signal_handler(libc::SIGSYS, forbidden).map_err(io::Error::from)
}

extern "C" fn forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler that asked for it (SA_SIGINFO) a whole `siginfo_t`, in which this word is the
    // number of the call where the signal is SIGSYS.
    let call = unsafe { info.cast::<libc::c_int>().add(CALL).read() };
    let mut words = [b' '; PLACE.len()];
    // What does not fit is cut.
    let _ = write!(&mut words[..], "{} {call}", Kind::of_this_thread().name());
    if let Some(LastWords { sentence, json, file }) = LAST_WORDS.get() {
        say(libc::STDERR_FILENO, sentence.as_bytes(), &words);
        if let Some(file) = file {
            say(file.as_raw_fd(), json, &words);
        }
    }
    // SAFETY: ends the process and runs nothing of ours.
    unsafe { libc::_exit(EndReason::Failed.exit_status().into()) }
}

/// Writes a text with the words filled in. The ending's file is empty until now, and nobody else writes to it.
fn say(to: libc::c_int, text: &[u8], words: &[u8; PLACE.len()]) {
    let mut filled = [0; MOST];
    let Some(filled) = filled.get_mut(..text.len()) else { return };
    filled.copy_from_slice(text);
    if let Some(at) = filled.windows(words.len()).position(|window| window == PLACE.as_bytes()) {
        filled[at..at + words.len()].copy_from_slice(words);
    }
    // SAFETY: the buffer has as many bytes as is said.
    unsafe { libc::write(to, filled.as_ptr().cast(), filled.len()) };
}
