//! Devices come and go while a machine runs.

use std::fs::File;
use std::os::fd::OwnedFd;

use host::{Error, ErrorKind};
use spec::control::{DeviceState, Status};
use spec::ids::{InterfaceId, VolumeId, VpcId};
use spec::machine::{Device, DeviceId, Disk, Limits, Mac, Nic, Rate, descriptors as names};
use spec::observed::MachineState;
use spec::storage::Volume;
use volume::Access;

use crate::world::{INSTANCE, VOLUME, World, eventually, machine};

/// As large as the disk that the machine begins with.
const BYTES: u64 = 1 << 30;

fn volume(world: &World, number: u64, bytes: u64) -> VolumeId {
    let id = VolumeId::from_random(number);
    world.storage.create_volume(&Volume { id, bytes, base: None }).unwrap();
    id
}

fn attach(world: &World, volume: VolumeId) -> Result<(), Error> {
    let no_tap =
        |_: &Nic| -> Result<Vec<(String, OwnedFd)>, Error> { unreachable!("no network interface is wanted") };
    let device = Device::Disk(Disk { volume, read_only: false, limits: Limits::default() });
    world.machines.attach(INSTANCE, &device, &world.storage, &no_tap)
}

fn status(world: &World) -> Status {
    match world.state() {
        Some(MachineState::Running { status: Some(status), .. }) => status,
        other => panic!("{other:?}"),
    }
}

fn started() -> Option<World> {
    let world = World::new()?;
    world.start(&machine(1)).unwrap();
    assert!(world.answers_in(1));
    Some(world)
}

#[test]
fn a_volume_is_the_machines_until_it_gives_it_back() {
    let Some(world) = started() else { return };
    let hints = world.machines.hints().unwrap();
    let id = volume(&world, 40, BYTES);
    attach(&world, id).unwrap();
    attach(&world, id).unwrap();
    assert_eq!(status(&world).disks[&id].bytes, BYTES);
    let in_use = || world.storage.open_volume(id, Access::Read).is_err();
    assert!(in_use());
    world.machines.detach(INSTANCE, DeviceId::Disk(id), false).unwrap();
    world.machines.detach(INSTANCE, DeviceId::Disk(id), false).unwrap();
    assert_eq!(status(&world).disks[&id].state, DeviceState::Detaching);
    assert!(in_use());
    let error = attach(&world, id).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Could not attach {id} to machine {INSTANCE}: it is not gone from there yet")
    );
    while hints.try_recv().is_ok() {}
    assert_eq!(world.say("release"), "released");
    hints.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    eventually(|| status(&world).disks.is_empty().then_some(()));
    assert!(!in_use());
    attach(&world, id).unwrap();
    world.machines.detach(INSTANCE, DeviceId::Disk(id), true).unwrap();
    assert!(!in_use());
}

#[test]
fn a_volume_larger_than_all_before_can_be_written_to_its_end() {
    let Some(world) = started() else { return };
    let id = volume(&world, 41, 3 * BYTES);
    match attach(&world, id) {
        Err(error) if error.chain().ends_with("Operation not permitted (os error 1)") => {
            println!("not tried: this takes CAP_SYS_RESOURCE");
        }
        result => {
            result.unwrap();
            assert_eq!(world.say("write last"), "written 1");
        }
    }
}

#[test]
fn limits_are_handed_on_and_shown() {
    let Some(world) = started() else { return };
    let id = volume(&world, 42, BYTES);
    attach(&world, id).unwrap();
    assert_eq!(status(&world).disks[&id].limits, Limits::default());
    let operations = Some(Rate { per_second: 3000.try_into().unwrap(), burst: 300, peak: None });
    let limits = Limits { operations, bytes: None };
    world.machines.limit(INSTANCE, DeviceId::Disk(id), limits).unwrap();
    assert_eq!(status(&world).disks[&id].limits, limits);
    let nobody = DeviceId::Disk(VolumeId::from_random(99));
    let error = world.machines.limit(INSTANCE, nobody, limits).unwrap_err();
    assert_eq!(
        error.chain(),
        format!("Could not limit {nobody} of machine {INSTANCE}: There is no such disk")
    );
}

#[test]
fn an_interface_comes_with_its_tap() {
    let Some(world) = started() else { return };
    let nic = Nic {
        interface: InterfaceId::from_random(5),
        index: 1,
        vpc: VpcId::from_random(6),
        mac: Mac::from_random(7),
        mtu: 1500,
        queues: 2,
        limits: Limits::default(),
    };
    let open_tap = |asked: &Nic| {
        assert_eq!((asked.vpc, asked.interface), (nic.vpc, nic.interface));
        let queue = |number| (names::tap(nic.interface, number), File::open("/dev/null").unwrap().into());
        Ok([0, 1].map(queue).into())
    };
    let device = Device::Nic(nic.clone());
    world.machines.attach(INSTANCE, &device, &world.storage, &open_tap).unwrap();
    assert!(status(&world).nics.contains_key(&nic.interface));
    world.machines.detach(INSTANCE, device.id(), true).unwrap();
    assert!(status(&world).nics.is_empty());
}

#[test]
fn what_cannot_be_attached_is_told_and_let_go_of() {
    let Some(world) = started() else { return };
    let volumes = [50, 51, 52].map(|number| volume(&world, number, BYTES));
    attach(&world, volumes[0]).unwrap();
    attach(&world, volumes[1]).unwrap();
    let error = attach(&world, volumes[2]).unwrap_err();
    assert_eq!(
        error.chain(),
        format!("Could not attach {} to machine {INSTANCE}: No root port is free", volumes[2])
    );
    assert!(world.storage.open_volume(volumes[2], Access::Write).is_ok(), "it is not held");
    assert!(attach(&world, VolumeId::from_random(99)).is_err());
    assert!(attach(&world, VOLUME).is_err(), "its own root disk, of which its status says nothing");
    world.machines.kill(INSTANCE).unwrap();
    assert_eq!(attach(&world, volumes[2]).unwrap_err().kind, ErrorKind::NotFound);
    assert!(world.storage.open_volume(volumes[0], Access::Write).is_ok(), "what it had is free");
}
