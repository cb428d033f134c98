//! What one machine should be: plain data from which the host launches a VMM and the VMM
//! builds a virtual machine.
//!
//! The host opens everything a machine needs (disks, TAPs, kernel, sockets) and hands it over
//! as open descriptors; the VMM itself opens no path. [`Launch`] is what the VMM reads first,
//! from the descriptor named [`descriptors::SPEC`]; the other names in [`descriptors`] say which
//! inherited descriptor is which.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, InterfaceId, VolumeId, VpcId};

/// One instance's machine, as it should run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Machine {
    /// Whose machine it is.
    pub instance: InstanceId,
    /// The name of its instance type, `t3.nano`, which its name plate (SMBIOS) says to the guest.
    #[serde(default)]
    pub instance_type: String,
    /// Which life of the instance this is.
    pub run: Run,
    /// User and group id of the machine's process; no other process on the host has it.
    pub user: u32,
    /// Virtual CPUs, at least 1.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Disks it begins with; the first is the root disk.
    pub disks: Vec<Disk>,
    /// Network interfaces it begins with.
    pub nics: Vec<Nic>,
    /// PCI Express root ports, in which devices come and go while it runs. All but the root disk and the primary network
    /// interface begin in one, as long as there are enough: disks from the first port on, interfaces from the last one
    /// back by their index, so that one disk more or less moves no interface. Who is in no port stays until the end.
    #[serde(default)]
    pub ports: u8,
    /// How often the user had asked for a reboot when this run began; see [`crate::control`].
    pub reboots: u64,
    /// It may be asked to write itself down: files as large as its memory.
    #[serde(default)]
    pub hibernates: bool,
    /// It goes on from what was saved of it, which is used up by that; from its kernel where there is nothing.
    #[serde(default)]
    pub resumes: bool,
    /// How much its process may do on the host's disks, reading and writing each, whatever its own disks may: the rates alone,
    /// without bursts.
    #[serde(default)]
    pub storage: Limits,
}

/// One life of an instance: incarnation *n* as the user asked for it, attempt *k* to keep it up.
///
/// Only a user's start raises the incarnation; only a lost machine raises the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// Counts the user's starts, from 1.
    pub incarnation: u32,
    /// Counts the attempts within an incarnation, from 1.
    pub attempt: u32,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.attempt)
    }
}

/// A volume as a disk of a machine. The guest reads the volume's id as the disk's serial.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Disk {
    /// Which volume.
    pub volume: VolumeId,
    /// Whether writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// How much it may do: requests, each begun 256 KiB of one counting as one, and their bytes.
    #[serde(default)]
    pub limits: Limits,
}

impl Disk {
    /// What the guest reads as the disk's serial: `vol0123456789abcdef0`, the volume's id without
    /// its hyphen, as EC2's NVMe devices show it. Exactly the 20 bytes that virtio-blk offers
    /// (virtio 1.2, 5.2.6.1).
    pub fn serial(&self) -> String {
        format!("{}{}", VolumeId::PREFIX, self.volume.digits())
    }
}

/// A network interface of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nic {
    /// Which elastic network interface; its TAP carries it.
    pub interface: InterfaceId,
    /// Its number at the instance, by which it gets its place: 0 is the primary interface, and no two have the same.
    #[serde(default)]
    pub index: u8,
    /// The VPC it is in, in whose namespace the TAP is.
    pub vpc: VpcId,
    /// Its address on the link.
    pub mac: Mac,
    /// Its largest packet, in bytes.
    pub mtu: u16,
    /// Pairs of queues that its driver may use, as far as its TAP has so many; see [`Nic::queues_for`].
    #[serde(default = "Nic::one_queue")]
    pub queues: u8,
    /// How much may pass in each direction: packets as its guest hands them over, and their bytes.
    #[serde(default)]
    pub limits: Limits,
}

impl Nic {
    /// The most pairs of queues.
    pub const MOST_QUEUES: u8 = 8;

    /// As many pairs of queues as are of use in a machine with so many vCPUs.
    pub fn queues_for(vcpus: u8) -> u8 {
        vcpus.clamp(1, Self::MOST_QUEUES)
    }

    /// What a spec means that does not say.
    fn one_queue() -> u8 {
        1
    }
}

/// How much a device may do. What is not named is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of a disk's requests, or of packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Rate>,
    /// Of their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Rate>,
}

/// So much a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU64,
    /// How much a device that does less may save up; one begins with all of it.
    #[serde(default)]
    pub burst: u64,
    /// At most so much a second even out of what was saved up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<NonZeroU64>,
}

/// What a machine can be given and deprived of while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// A volume.
    Disk(Disk),
    /// A network interface.
    Nic(Nic),
}

impl Device {
    /// Its name.
    pub fn id(&self) -> DeviceId {
        match self {
            Self::Disk(disk) => DeviceId::Disk(disk.volume),
            Self::Nic(nic) => DeviceId::Nic(nic.interface),
        }
    }
}

/// The name of a [`Device`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceId {
    /// Of a volume.
    Disk(VolumeId),
    /// Of a network interface.
    Nic(InterfaceId),
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(volume) => volume.fmt(f),
            Self::Nic(interface) => interface.fmt(f),
        }
    }
}

/// A 48-bit link address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A unicast, locally administered address (IEEE 802, U/L bit set) from 46 random bits.
    pub const fn from_random(bits: u64) -> Self {
        let b = bits.to_be_bytes();
        Self([(b[2] & 0xfc) | 0x02, b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not six pairs of hexadecimal digits with colons between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAMac(String);

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a link address of the form 02:00:5e:10:00:01", self.0)
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let not = || NotAMac(text.chars().take(64).collect());
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(pair.ok_or_else(not)?, 16).map_err(|_| not())?;
        }
        if pairs.next().is_some() { Err(not()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = NotAMac;

    fn try_from(text: String) -> Result<Self, NotAMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// What a VMM is given to read: its machine, and how to boot it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The machine to run.
    pub machine: Machine,
    /// The kernel's command line, as the root volume or the image says it.
    pub command_line: String,
}

/// Names of the descriptors that a VMM inherits.
///
/// The environment variable [`descriptors::VARIABLE`] lists the names of the descriptors from number 3 on, with
/// colons between: `spec:lock:control:…`. (The form of systemd's `LISTEN_FDNAMES`.)
pub mod descriptors {
    use crate::ids::{InterfaceId, VolumeId};

    /// The environment variable with the names.
    pub const VARIABLE: &str = "CUMULET_DESCRIPTORS";
    /// The number of the first named descriptor; 0 to 2 are standard input, output and error.
    pub const FIRST: i32 = 3;
    /// A JSON [`super::Launch`], to read.
    pub const SPEC: &str = "spec";
    /// The run directory's lock file, locked (`F_OFD_SETLK`) by the launcher and held until death.
    pub const LOCK: &str = "lock";
    /// A listening Unix stream socket that speaks [`crate::control`].
    pub const CONTROL: &str = "control";
    /// A listening Unix stream socket; a connection is the serial console, both ways.
    pub const CONSOLE: &str = "console";
    /// The console's ring file, to write; see [`crate::console`].
    pub const CONSOLE_RING: &str = "console-ring";
    /// The file for the [`crate::control::Ending`], to write; empty until the end.
    pub const ENDING: &str = "ending";
    /// `/dev/kvm`.
    pub const KVM: &str = "kvm";
    /// The kernel: bzImage, ELF with a PVH entry, or aarch64 Image; to read.
    pub const KERNEL: &str = "kernel";
    /// The initial RAM disk, to read; absent when there is none.
    pub const INITRD: &str = "initrd";
    /// The state of a machine that was saved, to go on from; see [`crate::control::Request::Save`]. With
    /// [`SAVED_MEMORY`] or not at all.
    pub const SAVED_STATE: &str = "saved-state";
    /// Its memory.
    pub const SAVED_MEMORY: &str = "saved-memory";

    /// A listening Unix stream socket at which programs in the guest are called (vsock): who connects says `CONNECT`, a
    /// port and a newline; absent where the guest is to have no such device.
    pub const SOCKETS: &str = "sockets";

    /// One of the files of a volume; `part` is one of those that the `volume` crate names.
    pub fn volume(volume: VolumeId, part: &str) -> String {
        format!("{volume}.{part}")
    }

    /// One queue of the open TAP of a network interface, opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`; where there are
    /// several, also with `IFF_MULTI_QUEUE`. The first has number 0, and is always there.
    pub fn tap(interface: InterfaceId, queue: u8) -> String {
        match queue {
            0 => interface.to_string(),
            _ => format!("{interface}.{queue}"),
        }
    }

    /// An open `/dev/vhost-net` for a queue of the TAP, by which the host's kernel carries its packets itself as long as the
    /// interface has no limits. One for each queue, or none.
    pub fn vhost(interface: InterfaceId, queue: u8) -> String {
        format!("{interface}.vhost-{queue}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_local_unicast_and_read_back() {
        let mac = Mac::from_random(u64::MAX);
        assert_eq!(mac.0[0] & 0b11, 0b10);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "02:00:5e:10:00:0g",
            "2:0:5e:10:0:1",
            "+2:00:5e:10:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_serial_fills_virtio_blks_twenty_bytes() {
        let disk = Disk {
            volume: "vol-0123456789abcdef0".parse().unwrap(),
            read_only: false,
            limits: Limits::default(),
        };
        assert_eq!(disk.serial(), "vol0123456789abcdef0");
    }
}
