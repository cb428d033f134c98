//! A terminal as a guest's console: what is typed goes to the guest as it is typed, and only the guest
//! echoes it. Ctrl-C remains the way out.
#![allow(unsafe_code, reason = "tcgetattr and tcsetattr")]

use std::io;

/// The terminal as it was before; put back when dropped.
pub(crate) struct Terminal(libc::termios);

impl Terminal {
    /// Gives standard input to the guest, if it is a terminal.
    pub(crate) fn lend() -> Option<Self> {
        // SAFETY: all of it is numbers, of which zero is one.
        let mut before: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `termios`, ours.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &raw mut before) } != 0 {
            return None;
        }
        let mut lent = before;
        lent.c_lflag &= !(libc::ICANON | libc::ECHO);
        lent.c_iflag &= !(libc::ICRNL | libc::IXON);
        set(&lent).ok().map(|()| Self(before))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to put back.
        let _ = set(&self.0);
    }
}

fn set(attributes: &libc::termios) -> io::Result<()> {
    // SAFETY: the kernel reads one `termios`.
    match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, attributes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
