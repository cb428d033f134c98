//! Disks and network interfaces come and go in a running Linux guest, on the real monitor and this machine's KVM.
//!
//! They need a host whose KVM boots Linux and a guest that is named ([`guest::IMAGE`]), so they run only when asked for:
//! `scripts/test --only monitor` has the lab, and names the image `tiny`. Much of what these do with a monitor,
//! `tests/guest/test_hotplug.py` does by the API, in every run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod guest;
mod tap;

use std::time::{Duration, Instant};

use guest::{Guest, TestVolume, attach_nic, nic};
use spec::control::{Answer, DeviceState, Request};
use spec::machine::DeviceId;

/// What the guest's kernel says when a task waits for something that never comes; it is told to say so soon.
const HANGS: &str = "blocked for more than";

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn a_disk_comes_is_used_and_goes_and_what_was_written_stays() {
    let mut guest = Guest::boot(2);
    let volume = TestVolume::new(&guest, 0x77, 64);
    let status = guest.attach(&volume);
    assert_eq!((status.port, status.state, status.bytes), (Some(0), DeviceState::Attached, 64 << 20));
    assert!(volume.is_locked());
    let disk = guest.wait_for_disk(volume.id);
    assert_eq!(guest.run(&format!("cat /sys/block/{disk}/size")).trim(), "131072");
    guest.run(&format!("echo written by the guest | dd of=/dev/{disk} bs=512 seek=100 conv=sync"));
    // Sixty reads at twenty a second, then as fast as it goes, begun while the limit was on.
    guest.limit(volume.id(), Some(20));
    let begin = Instant::now();
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=60 iflag=direct");
    guest.run(&read);
    assert!(begin.elapsed() > Duration::from_millis(2900), "{:?}", begin.elapsed());
    guest.limit(volume.id(), Some(1));
    guest.run(&format!("{read} 2> /dev/null &"));
    std::thread::sleep(Duration::from_secs(1));
    guest.limit(volume.id(), None);
    let begin = Instant::now();
    guest.run("wait");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let begin = Instant::now();
    guest.detach(volume.id(), false);
    guest.detach(volume.id(), false); // pressed once
    guest.until_detached(&volume);
    assert!(begin.elapsed() > Duration::from_secs(4), "the guest was not asked");
    assert_eq!(guest.find_disk(volume.id), None);
    // It is there for whoever gets it next.
    guest.attach(&volume);
    let disk = guest.wait_for_disk(volume.id);
    assert!(
        guest.run(&format!("dd if=/dev/{disk} bs=512 skip=100 count=1")).contains("written by the guest")
    );
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn twenty_rounds_with_reboots_between_leave_nothing_behind() {
    let mut guest = Guest::boot(4);
    let (one, other) = (TestVolume::new(&guest, 1 << 8, 8), TestVolume::new(&guest, 2 << 8, 8));
    guest.attach(&other);
    guest.wait_for_disk(other.id);
    let before = (guest.descriptors(), guest.threads());
    for round in 0..20 {
        guest.attach(&one);
        let disk = guest.wait_for_disk(one.id);
        let words = format!("round {round}.");
        guest.run(&format!("echo {words} | dd of=/dev/{disk} conv=fsync"));
        if round % 5 == 4 {
            guest.reboot();
            // Everything is where it was.
            assert_eq!(guest.wait_for_disk(one.id), disk);
            guest.wait_for_disk(other.id);
            assert!(guest.run(&format!("dd if=/dev/{disk} bs=512 count=1")).contains(&words));
        }
        let force = round % 3 == 2;
        guest.detach(one.id(), force);
        guest.until_detached(&one);
        guest.until(|status| status.free_ports == 3);
        guest.wait_for_no_disk(one.id);
    }
    let after = (guest.descriptors(), guest.threads());
    assert_eq!(after, before);
    assert!(!guest.run("dmesg").contains(HANGS));
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn a_disk_that_is_pulled_out_in_the_middle_of_its_work_harms_nobody() {
    let mut guest = Guest::boot(2);
    guest.run("echo 20 > /proc/sys/kernel/hung_task_timeout_secs");
    for round in 0..5 {
        let volume = TestVolume::new(&guest, 100 + round, 64);
        guest.attach(&volume);
        let disk = guest.wait_for_disk(volume.id);
        guest.run(&format!("mke2fs /dev/{disk} > /dev/null && mount /dev/{disk} /mnt"));
        for name in ["a", "b"] {
            let write = format!("dd if=/dev/zero of=/mnt/{name} bs=64k count=200");
            guest.run(&format!("(while {write} && sync; do :; done) > /dev/null 2>&1 &"));
            let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k iflag=direct");
            guest.run(&format!("(for n in $(seq 1000); do {read}; done) > /dev/null 2>&1 &"));
        }
        std::thread::sleep(Duration::from_millis(500));
        guest.detach(volume.id(), true);
        guest.until_detached(&volume);
        guest.until(|status| status.free_ports == 2);
        guest.wait_for_no_disk(volume.id);
        guest.run("killall dd 2> /dev/null; umount -l /mnt; true");
    }
    std::thread::sleep(Duration::from_secs(45));
    let said = guest.run("dmesg");
    assert!(!said.contains(HANGS), "{said}");
    // Both ports still take disks in.
    for number in [200, 201] {
        let volume = TestVolume::new(&guest, number, 8);
        guest.attach(&volume);
        guest.wait_for_disk(volume.id);
    }
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn a_guest_that_ejects_or_is_asked_while_it_boots_is_served() {
    let mut guest = Guest::boot(2);
    let volume = TestVolume::new(&guest, 7, 8);
    guest.attach(&volume);
    guest.wait_for_disk(volume.id);
    // It lets go by itself: the card stays, and may be taken in again.
    guest.run("echo 0 > /sys/bus/pci/slots/8/power");
    guest.wait_for_no_disk(volume.id);
    assert_eq!(guest.until(|_| true).disks[&volume.id].state, DeviceState::Attached);
    guest.run("echo 1 > /sys/bus/pci/slots/8/power");
    guest.wait_for_disk(volume.id);
    // What it does not use is taken at once.
    guest.run("echo 0 > /sys/bus/pci/slots/8/power");
    let begin = Instant::now();
    guest.detach(volume.id(), false);
    guest.until_detached(&volume);
    assert!(begin.elapsed() < Duration::from_secs(4));
    // While it boots, a card comes that it finds when it is up, and one goes that it had not asked for.
    let early = TestVolume::new(&guest, 8, 8);
    guest.attach(&volume);
    guest.wait_for_disk(volume.id);
    guest.type_line("reboot -f");
    guest.until(|status| status.resets == 1);
    guest.attach(&early);
    guest.detach(volume.id(), false);
    guest.until_ready();
    guest.wait_for_disk(early.id);
    guest.until_detached(&volume);
    guest.wait_for_no_disk(volume.id);
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn a_machine_that_begins_anew_keeps_nobody_who_was_to_leave() {
    let mut guest = Guest::boot(2);
    let volume = TestVolume::new(&guest, 9, 8);
    guest.attach(&volume);
    guest.wait_for_disk(volume.id);
    guest.detach(volume.id(), false);
    guest.type_line("reboot -f");
    let status = guest.until_detached(&volume);
    assert_eq!((status.resets, status.free_ports), (1, 2));
    guest.until_ready();
    assert_eq!(guest.find_disk(volume.id), None);
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn a_disk_grows_while_it_is_mounted() {
    let mut guest = Guest::boot(1);
    let volume = TestVolume::new(&guest, 10, 16);
    guest.attach(&volume);
    let disk = guest.wait_for_disk(volume.id);
    guest.run(&format!("mke2fs /dev/{disk} > /dev/null && mount /dev/{disk} /mnt && echo kept > /mnt/file"));
    let answer = guest.ask(&Request::Resize { volume: volume.id, bytes: 1 << 30 });
    assert!(matches!(answer, Answer::Status(status) if status.disks[&volume.id].bytes == 1 << 30));
    guest::eventually("the guest does not hear of the new size", || {
        (guest.run(&format!("cat /sys/block/{disk}/size")).trim() == "2097152").then_some(())
    });
    guest.run(&format!("dd if=/dev/zero of=/dev/{disk} bs=1M seek=1023 count=1 conv=fsync"));
    assert_eq!(guest.run("cat /mnt/file"), "kept\n");
    let unknown =
        guest.ask(&Request::Resize { volume: spec::ids::VolumeId::from_random(99), bytes: 1 << 30 });
    assert!(matches!(unknown, Answer::Refused { refused } if refused.starts_with("The machine has no disk")));
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn interfaces_come_and_go_by_button_and_by_force() {
    let mut guest = Guest::boot(3);
    let before = guest.wait_for_interfaces(1);
    for (index, force) in [(1, false), (2, true), (1, true)] {
        let (name, nic) = (format!("hot{index}"), nic(index));
        let tap = tap::open(&name);
        guest.ask_with(&attach_nic(&nic), &[tap]);
        let port = guest.until(|_| true).nics[&nic.interface].port;
        assert_eq!(port, Some(3 - index));
        let names = guest.wait_for_interfaces(2);
        let new = names.iter().find(|name| !before.contains(name)).unwrap();
        assert_eq!(guest.run(&format!("cat /sys/class/net/{new}/address")).trim(), nic.mac.to_string());
        guest.run(&format!("ip link set {new} up"));
        assert!(tap::try_open(&name).is_err(), "the TAP is not the monitor's");
        guest.detach(DeviceId::Nic(nic.interface), force);
        guest.until(|status| status.nics.is_empty());
        drop(tap::try_open(&name).expect("the TAP is free"));
        guest.wait_for_interfaces(1);
        guest.until(|status| status.free_ports == 3);
    }
    assert!(!guest.run("dmesg").contains(HANGS));
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut guest = Guest::boot(1);
    let refused = |answer: Answer, why: &str| match answer {
        Answer::Refused { refused } => assert!(refused.contains(why), "{refused}"),
        Answer::Status(status) => panic!("{status:?}"),
    };
    let (volume, other) = (TestVolume::new(&guest, 11, 8), TestVolume::new(&guest, 12, 8));
    let root = spec::ids::VolumeId::from_random(1);
    refused(guest.ask(&Request::Detach { device: DeviceId::Disk(root), force: true }), "stays until");
    refused(guest.ask(&volume.request()), "Not as many descriptors");
    // The parts of another, larger volume: the map says otherwise.
    let larger = TestVolume::new(&guest, 13, 16);
    let [data, _] = <[_; 2]>::try_from(volume.open()).unwrap();
    let [_, map] = <[_; 2]>::try_from(larger.open()).unwrap();
    refused(guest.ask_with(&volume.request(), &[data, map]), "Cannot open the disk");
    assert!(!volume.is_locked() && !larger.is_locked());
    guest.attach(&volume);
    guest.wait_for_disk(volume.id);
    refused(guest.ask_with(&other.request(), &other.open()), "No root port is free");
    assert!(!other.is_locked());
    let nothing = guest.ask(&Request::Detach { device: other.id(), force: false });
    assert!(matches!(nothing, Answer::Status(_)));
    guest.detach(volume.id(), false);
    refused(guest.ask_with(&volume.request(), &[]), "Not as many descriptors");
    guest.until_detached(&volume);
    // The port is free again, for the other.
    guest.until(|status| status.free_ports == 1);
    guest.attach(&other);
    guest.wait_for_disk(other.id);
}

#[test]
#[ignore = "needs a guest: scripts/test --only monitor"]
fn a_tap_that_somebody_has_is_refused() {
    let _taken = tap::open("taken0");
    let output = guest::monitor().args(["--tap", "taken0:02:00:00:00:00:01"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{message}");
    assert!(message.contains("Cannot use the TAP taken0") && message.contains("busy"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}
