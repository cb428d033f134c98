//! A guest that writes whatever to wherever its root ports and the cards in them are, while its operator gives it
//! devices and takes them away: the monitor goes on, or ends the machine with a reason.

use std::io::BufRead;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use spec::control::{Answer, Request, Status};
use spec::ids::VolumeId;
use spec::machine::{Device, DeviceId, Disk, Limits, descriptors as names};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;
use volume::{Access, Parts};

use crate::code::poke;
use crate::guests::{Guest, Running};
use crate::support::kvm_works;

/// The exit status of a machine whose guest did what a processor cannot go on from.
const CRASHED: i32 = 70;

/// Bits of a random number that are an offset, and what is added to it, in PCI's configuration space: the eight ports,
/// and whatever is behind them.
const PORTS: (u32, u32) = (0x0003_80ff, 0x4_0000);
const CARDS: (u32, u32) = (0x0070_00ff, 0x10_0000);
/// The same in the window for memory: the ports' windows.
const WINDOWS: (u32, u32) = (0x009f_ffff, 0);

/// The operator of such a guest.
struct Operator<'g> {
    guest: &'g Guest,
    running: Running,
}

impl Operator<'_> {
    /// Asks, and waits until a status is as it should be; `None` once the machine has ended.
    fn ask(
        &mut self,
        request: &Request,
        descriptors: &[OwnedFd],
        wanted: impl Fn(&Status) -> bool,
    ) -> Option<()> {
        let line = serde_json::to_string(request).unwrap() + "\n";
        let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        self.running.control.get_ref().send_with_fds(&[line.as_bytes()], &numbers).ok()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let mut line = String::new();
            if self.running.control.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match serde_json::from_str(&line).unwrap() {
                Answer::Status(status) if wanted(&status) => return Some(()),
                Answer::Status(_) => {}
                Answer::Refused { refused } => panic!("{refused}"),
            }
        }
        panic!("{request:?} is never done");
    }

    /// Gives a volume and takes it away again. Its port may be free only after its files are: each round has its own.
    fn round(&mut self, number: u64, ask_first: bool) -> Option<()> {
        let volume = VolumeId::from_random(number);
        let folder = self.guest.path(&volume.to_string());
        std::fs::create_dir(&folder).unwrap();
        volume::create(&folder, 1 << 20, None).unwrap();
        let open = || Parts::open(&folder, Access::Write);
        let parts = open().expect("the volume is free");
        let descriptors: Vec<OwnedFd> = parts.named().map(|(_, file)| file.into()).collect();
        let device = Device::Disk(Disk { volume, read_only: false, limits: Limits::default() });
        let named = ["data", "map"].map(|part| names::volume(volume, part)).to_vec();
        let attach = Request::Attach { device, descriptors: named };
        self.ask(&attach, &descriptors, |status| status.disks.contains_key(&volume))?;
        drop(descriptors);
        let id = DeviceId::Disk(volume);
        if ask_first {
            self.ask(&Request::Detach { device: id, force: false }, &[], |_| true)?;
        }
        let gone = |status: &Status| !status.disks.contains_key(&volume);
        self.ask(&Request::Detach { device: id, force: true }, &[], gone)?;
        assert!(open().is_ok(), "the volume stays locked");
        self.ask(&Request::Status, &[], |status| status.free_ports >= 6)
    }
}

#[test]
fn ports_are_the_operators_whatever_the_guest_writes() {
    if !kvm_works() {
        return;
    }
    for seed in 1..3 {
        let guest = Guest::new(&poke(0x9e37_79b9 >> seed, &[PORTS, CARDS], &[WINDOWS]));
        let running = Running::start(&guest, &["--ports", "8", "--cpus", "2"]);
        let mut operator = Operator { guest: &guest, running };
        let mut rounds = 0;
        while rounds < 6 && operator.round(rounds + 1, rounds % 2 == 0).is_some() {
            rounds += 1;
        }
        let ended = operator.running.child.try_wait().unwrap();
        println!("seed {seed}: {rounds} rounds, then {ended:?}");
        // A message to nowhere in particular may have been the processor's last.
        assert!(ended.is_none_or(|status| status.code() == Some(CRASHED)), "{ended:?}");
    }
}
