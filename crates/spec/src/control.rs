//! Words on a VMM's control socket, and how a machine ended.
//!
//! The socket is a Unix stream; each message is one line of JSON, at most [`MAX_LINE`] bytes. The
//! host sends a [`Request`]; the VMM answers each with its [`Status`] or, where it does not do it, with why
//! ([`Answer`]), and sends the status unasked to every connection whenever it changes. What arrives is a hint to
//! look again, and the end of the stream is too: the host believes the run directory's lock and [`Ending`], not
//! the socket.
//!
//! What a new device works on comes as open descriptors with the line that asks for it (`SCM_RIGHTS`, unix(7)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{InterfaceId, VolumeId};
use crate::machine::{Device, DeviceId, Limits, Run};

/// The longest line either side accepts, in bytes, its newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// The most descriptors that come with one line.
pub const MAX_DESCRIPTORS: usize = 16;

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
    /// Give the guest a device, in a free port; its driver hears of it at once. It stays over a reset. The descriptors
    /// are closed where this is refused; for a device that the machine has already, they are closed and it is not
    /// refused.
    Attach {
        /// What.
        device: Device,
        /// Names of the descriptors that come with this line, in order, as in [`crate::machine::descriptors`].
        descriptors: Vec<String>,
    },
    /// Take a device away that is in a port. Without force the guest is asked, as by a button beside the port, and
    /// again and again until it has let go or the machine begins anew; it takes some five seconds of courtesy itself.
    /// With force the device fails at once and is then pulled out. The descriptors are closed when it is gone from the
    /// [`Status`]. Of a device that the machine has not, it does nothing.
    Detach {
        /// Which.
        device: DeviceId,
        /// Whether not to ask the guest.
        #[serde(default)]
        force: bool,
    },
    /// Make a volume larger and tell the guest. To what it is, or less, it does nothing.
    Resize {
        /// Which.
        volume: VolumeId,
        /// Its new size in bytes.
        bytes: u64,
    },
    /// Stand still: no vCPU runs and no device works until [`Self::Resume`]. The guest's clocks go on meanwhile.
    Pause,
    /// Go on.
    Resume,
    /// Write the whole machine down, standing still as long as that takes: its state and its memory, each into a file of
    /// its own that is empty. A machine launched with both goes on from there. Refused while a device is on its way out;
    /// and while this is under way, devices stay as they are. What came of it is in [`Status::save`].
    Save {
        /// End when it is written, with [`EndReason::Saved`]: nothing happens in the machine after what was saved.
        /// Where it could not be written the machine goes on.
        end: bool,
        /// Names of the descriptors that come with this line, in order: [`crate::machine::descriptors::SAVED_STATE`] and
        /// [`crate::machine::descriptors::SAVED_MEMORY`].
        descriptors: Vec<String>,
    },
    /// From now on a device may do so much. What it has done under its limits so far counts. Over a reset it stays so.
    Limit {
        /// Which.
        device: DeviceId,
        /// How much.
        limits: Limits,
    },
}

impl Request {
    /// Whether a status shows that this was taken on, as the answer to it does. One that was sent unasked just before
    /// may not.
    pub fn is_taken_on(&self, status: &Status) -> bool {
        match self {
            Self::Status | Self::Reboot { .. } => true,
            Self::PowerOff => status.powering_off,
            Self::Pause => status.paused,
            Self::Resume => !status.paused,
            Self::Save { .. } => status.save.is_some(),
            Self::Attach { device, .. } => status.state_of(device.id()) == Some(DeviceState::Attached),
            Self::Detach { device, force } => match status.state_of(*device) {
                Some(DeviceState::Attached) => false,
                Some(DeviceState::Detaching) => !force,
                Some(DeviceState::Taken) | None => true,
            },
            Self::Resize { volume, bytes } => {
                status.disks.get(volume).is_some_and(|disk| disk.bytes >= *bytes)
            }
            Self::Limit { device, limits } => status.limits_of(*device) == Some(*limits),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It is not done.
    Refused {
        /// Why, in one sentence.
        refused: String,
    },
    /// How things are.
    Status(Status),
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which life of the instance this is.
    pub run: Run,
    /// The last of the user's reboots that was carried out; see [`Request::Reboot`].
    pub reboots: u64,
    /// The user's reboot that the guest has been asked for and has not carried out.
    #[serde(default)]
    pub rebooting: Option<u64>,
    /// How often the machine was built anew in this run, whoever wanted it.
    pub resets: u64,
    /// The guest has been asked to power off.
    pub powering_off: bool,
    /// The guest's kernel told its panic device that it panicked.
    pub panicked: bool,
    /// It stands still, or is about to, because somebody asked for that.
    #[serde(default)]
    pub paused: bool,
    /// What came of the last [`Request::Save`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<Save>,
    /// The disks it has. One that is not here is closed and unlocked.
    #[serde(default)]
    pub disks: BTreeMap<VolumeId, DiskStatus>,
    /// The network interfaces it has. The TAP of one that is not here is closed.
    #[serde(default)]
    pub nics: BTreeMap<InterfaceId, NicStatus>,
    /// Ports that are free.
    #[serde(default)]
    pub free_ports: u8,
}

impl Status {
    /// A machine that has just begun, without devices.
    pub fn new(run: Run, reboots: u64) -> Self {
        Self {
            run,
            reboots,
            rebooting: None,
            resets: 0,
            powering_off: false,
            panicked: false,
            paused: false,
            save: None,
            disks: BTreeMap::new(),
            nics: BTreeMap::new(),
            free_ports: 0,
        }
    }

    /// Whether a device stays; `None` where the machine has no such device.
    pub fn state_of(&self, device: DeviceId) -> Option<DeviceState> {
        match device {
            DeviceId::Disk(volume) => self.disks.get(&volume).map(|disk| disk.state),
            DeviceId::Nic(interface) => self.nics.get(&interface).map(|nic| nic.state),
        }
    }

    /// How much a device may do; `None` where the machine has no such device.
    pub fn limits_of(&self, device: DeviceId) -> Option<Limits> {
        match device {
            DeviceId::Disk(volume) => self.disks.get(&volume).map(|disk| disk.limits),
            DeviceId::Nic(interface) => self.nics.get(&interface).map(|nic| nic.limits),
        }
    }
}

/// How far the writing down of a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Save {
    /// It is being written.
    UnderWay,
    /// Everything is written, and safe on the disk.
    Done,
    /// It could not be written; one sentence says why. The machine goes on.
    Failed(String),
}

/// Whether a device of a machine stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// It does.
    Attached,
    /// The guest was asked to let go of it; see [`Request::Detach`].
    Detaching,
    /// It was taken from the guest, and is being cleared away.
    Taken,
}

/// A disk that a machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// The port it is in; none where it stays until the machine's end.
    pub port: Option<u8>,
    /// Whether it stays.
    pub state: DeviceState,
    /// Its size in bytes, as the guest is told.
    pub bytes: u64,
    /// How much it may do.
    #[serde(default)]
    pub limits: Limits,
    /// The first thing that what stands behind it did not do, and why: the guest got an I/O error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A network interface that a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicStatus {
    /// The port it is in; none where it stays until the machine's end.
    pub port: Option<u8>,
    /// Whether it stays.
    pub state: DeviceState,
    /// How much may pass in each direction.
    #[serde(default)]
    pub limits: Limits,
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
    /// It was written down, to go on later; see [`Request::Save`].
    Saved,
    /// It could not go on from what was saved. Begun anew it may well run.
    Unrestorable,
}

impl EndReason {
    /// The process's exit status for this end: 0 for a power-off and for what goes on later, one of its own for each other.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::PoweredOff | Self::Saved => 0,
            Self::Crashed => 70,
            Self::Unbuildable => 78,
            Self::Unrestorable => 76,
            Self::Failed => 71,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Rate;

    #[test]
    fn messages_are_one_readable_line() {
        let request = Request::Reboot { count: 2, patience_ms: 1500 };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"request":"reboot","count":2,"patience_ms":1500}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        assert!(serde_json::from_str::<Request>(r#"{"request":"format-disk"}"#).is_err());
        let detach = r#"{"request":"detach","device":{"disk":"vol-0123456789abcdef0"}}"#;
        let volume = "vol-0123456789abcdef0".parse().unwrap();
        let device = DeviceId::Disk(volume);
        let request = Request::Detach { device, force: false };
        assert_eq!(serde_json::from_str::<Request>(detach).unwrap(), request);
        let limit = r#"{"request":"limit","device":{"disk":"vol-0123456789abcdef0"},"limits":{"operations":{"per_second":100,"burst":50,"peak":3000}}}"#;
        let [per_second, peak] = [100, 3000].map(|rate| rate.try_into().unwrap());
        let operations = Some(Rate { per_second, burst: 50, peak: Some(peak) });
        let request = Request::Limit { device, limits: Limits { operations, bytes: None } };
        assert_eq!(serde_json::from_str::<Request>(limit).unwrap(), request);
        assert!(serde_json::from_str::<Request>(&limit.replace("100", "0")).is_err());
    }

    #[test]
    fn a_status_shows_what_was_taken_on() {
        let volume: VolumeId = "vol-0123456789abcdef0".parse().unwrap();
        let id = DeviceId::Disk(volume);
        let device =
            Device::Disk(crate::machine::Disk { volume, read_only: false, limits: Limits::default() });
        let attach = Request::Attach { device, descriptors: Vec::new() };
        let detach = Request::Detach { device: id, force: false };
        let resize = Request::Resize { volume, bytes: 4096 };
        let mut status = Status::new(Run { incarnation: 1, attempt: 1 }, 0);
        let shown = |status: &Status| [&attach, &detach, &resize].map(|request| request.is_taken_on(status));
        assert_eq!(shown(&status), [false, true, false]);
        let disk = |state, bytes| DiskStatus {
            port: Some(0),
            state,
            bytes,
            limits: Limits::default(),
            failure: None,
        };
        status.disks.insert(volume, disk(DeviceState::Attached, 4096));
        assert_eq!(shown(&status), [true, false, true]);
        status.disks.insert(volume, disk(DeviceState::Detaching, 512));
        assert_eq!(shown(&status), [false, true, false]);
        assert!(!Request::Detach { device: id, force: true }.is_taken_on(&status));
        assert_eq!(status.state_of(DeviceId::Nic("eni-0123456789abcdef0".parse().unwrap())), None);
    }

    #[test]
    fn an_answer_is_a_status_or_a_reason() {
        let mut status = Status::new(Run { incarnation: 1, attempt: 2 }, 3);
        let volume = "vol-0123456789abcdef0".parse().unwrap();
        let rate = Rate { per_second: 3000.try_into().unwrap(), burst: 0, peak: None };
        let disk = DiskStatus {
            port: Some(1),
            state: DeviceState::Detaching,
            bytes: 1 << 30,
            limits: Limits { operations: Some(rate), bytes: None },
            failure: Some("A write failed: No space left on device (os error 28)".into()),
        };
        status.disks.insert(volume, disk);
        for answer in [Answer::Refused { refused: "No port is free".into() }, Answer::Status(status)] {
            let line = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer, "{line}");
        }
        // Of a build that had no ports.
        let old = r#"{"run":{"incarnation":1,"attempt":1},"reboots":0,"resets":0,"powering_off":false,"panicked":false}"#;
        assert!(matches!(serde_json::from_str(old), Ok(Answer::Status(status)) if status.disks.is_empty()));
    }
}
