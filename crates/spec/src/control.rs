//! Words on a VMM's control socket, and how a machine ended.
//!
//! The socket is a Unix stream; each message is one line of JSON, at most [`MAX_LINE`] bytes. The
//! host sends a [`Request`]; the VMM answers each with its [`Status`], and sends the same unasked to
//! every connection whenever it changes. What arrives is a hint to look again, and the
//! end of the stream is too: the host believes the run directory's lock and [`Ending`], not the
//! socket.

use serde::{Deserialize, Serialize};

use crate::machine::Run;

/// The longest line either side accepts, in bytes, its newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// What the host asks of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Say how things are.
    Status,
    /// Press the power button, again every few seconds (a guest that is still booting misses
    /// the first), until the guest powers off and the machine ends.
    PowerOff,
    /// Press the power button the same way, and build the machine anew when the guest powers off, or after
    /// `patience_ms` in any case. Asked again with the same `count` it changes nothing.
    Reboot {
        /// The user's reboots so far, this one included; the machine echoes it when it is done.
        count: u64,
        /// Milliseconds until the guest is reset without its help.
        patience_ms: u64,
    },
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which life of the instance this is.
    pub run: Run,
    /// The last of the user's reboots that was carried out; see [`Request::Reboot`].
    pub reboots: u64,
    /// How often the machine was built anew in this run, whoever wanted it.
    pub resets: u64,
    /// The guest has been asked to power off.
    pub powering_off: bool,
    /// The guest's kernel told its panic device that it panicked.
    pub panicked: bool,
}

/// What the VMM writes about its end. A machine that is gone without one was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Which life of the instance ended.
    pub run: Run,
    /// Why.
    pub reason: EndReason,
    /// One sentence: which step on which object, and what happened.
    pub message: String,
}

/// Why a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The guest powered itself off, asked or not.
    PoweredOff,
    /// The guest did what the processor cannot go on from (KVM's internal error, failed entry).
    Crashed,
    /// The machine could not be built: a spec that lies, a kernel that is none, a file that is missing.
    Unbuildable,
    /// The monitor itself, or the host under it, failed.
    Failed,
}

impl EndReason {
    /// The process's exit status for this end: 0 for a power-off, one of its own for each other.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::Crashed => 70,
            Self::Unbuildable => 78,
            Self::Failed => 71,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_readable_line() {
        let request = Request::Reboot { count: 2, patience_ms: 1500 };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"request":"reboot","count":2,"patience_ms":1500}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        assert!(serde_json::from_str::<Request>(r#"{"request":"format-disk"}"#).is_err());
    }
}
