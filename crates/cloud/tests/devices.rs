//! Volumes and interfaces come to instances that run, and go: from commands to steps and back.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::sync::Arc;

use cloud::catalog::PORTS;
use cloud::model::*;
use cloud::refusal::Kind;
use cloud::rules::network_interfaces::{self, NewInterface};
use cloud::rules::performance::Performance;
use cloud::rules::volumes::{self, Change, NewVolume};
use cloud::rules::{instances as rules, launch::run_instances};
use cloud::state::{AttachmentState, VolumeState};
use cloud::{Reason, Refusal, Settings, Tx};
use common::Cloud;
use spec::ids::*;
use spec::machine::{DeviceId, Limits};
use spec::steps::Step;
use tests::small_world::launch;

/// A cloud with one instance that runs.
fn running() -> (Cloud, InstanceId) {
    let (mut cloud, image) = Cloud::new();
    cloud.command(|tx| run_instances(tx, &launch(image))).unwrap();
    cloud.converge();
    let id = *cloud.world.instances.keys().next().unwrap();
    (cloud, id)
}

/// A volume that is there, in the instance's zone.
fn volume(cloud: &mut Cloud, instance: InstanceId) -> VolumeId {
    let zone = cloud.world.subnets[&cloud.world.instances[&instance].subnet].zone.clone();
    let (kind, performance) = (VolumeKind::Gp2, Performance::default());
    let new = NewVolume { zone, gib: 1, kind, performance, tags: Tags::new(), client_token: None };
    let id = cloud.command(|tx| volumes::create(tx, &new)).unwrap();
    cloud.converge();
    id
}

/// One that is to be at the instance.
fn attach_volume(cloud: &mut Cloud, letter: char, instance: InstanceId) -> VolumeId {
    let id = volume(cloud, instance);
    cloud.command(|tx| volumes::attach(tx, id, instance, &format!("/dev/sd{letter}"))).unwrap();
    id
}

fn attach_interface(cloud: &mut Cloud, instance: InstanceId) -> (InterfaceId, InterfaceAttachmentId) {
    let new = NewInterface {
        subnet: cloud.world.instances[&instance].subnet,
        description: String::new(),
        address: None,
        groups: Default::default(),
        tags: Tags::new(),
        client_token: None,
    };
    let id = cloud.command(|tx| network_interfaces::create(tx, &new)).unwrap();
    assert_eq!(cloud.converge(), [], "an interface at rest is nothing on the host");
    let attachment = cloud.command(|tx| network_interfaces::attach(tx, id, instance, 1)).unwrap();
    (id, attachment)
}

fn detach(cloud: &mut Cloud, volume: VolumeId, force: bool) {
    cloud.command(|tx| volumes::detach(tx, volume, None, None, force)).unwrap();
}

fn state(cloud: &Cloud, volume: VolumeId) -> Option<AttachmentState> {
    let row = &cloud.world.volumes[&volume];
    row.attachment.as_ref().map(|at| cloud.world.volume_attachment_state(row, at))
}

#[test]
fn a_volume_is_attached_and_taken_away() {
    let (mut cloud, instance) = running();
    let volume = attach_volume(&mut cloud, 'f', instance);
    assert_eq!(state(&cloud, volume), Some(AttachmentState::Attaching));
    let steps = cloud.converge();
    let id = DeviceId::Disk(volume);
    assert!(matches!(&steps[..], [Step::AttachDevice(at, device)] if *at == instance && device.id() == id));
    assert_eq!(state(&cloud, volume), Some(AttachmentState::Attached));

    detach(&mut cloud, volume, false);
    assert_eq!(state(&cloud, volume), Some(AttachmentState::Detaching));
    assert_eq!(cloud.converge(), [Step::DetachDevice(instance, id, false)]);
    assert_eq!(cloud.world.volume_state(&cloud.world.volumes[&volume]), VolumeState::Available);
    assert_eq!(state(&cloud, volume), None);
}

#[test]
fn what_is_taken_back_before_it_came_never_comes() {
    let (mut cloud, instance) = running();
    let volume = attach_volume(&mut cloud, 'f', instance);
    detach(&mut cloud, volume, false);
    assert_eq!(cloud.converge(), []);
    assert_eq!(state(&cloud, volume), None);
}

#[test]
fn a_guest_that_does_not_let_go_is_asked_once_and_then_not() {
    let (mut cloud, instance) = running();
    let volume = attach_volume(&mut cloud, 'f', instance);
    cloud.converge();
    cloud.guests_obey = false;
    detach(&mut cloud, volume, false);
    let id = DeviceId::Disk(volume);
    assert_eq!(cloud.converge(), [Step::DetachDevice(instance, id, false)]);
    cloud.pass_seconds(1000);
    assert_eq!(cloud.converge(), []);
    assert_eq!(state(&cloud, volume), Some(AttachmentState::Detaching));
    detach(&mut cloud, volume, true);
    detach(&mut cloud, volume, false);
    assert_eq!(cloud.converge(), [Step::DetachDevice(instance, id, true)], "force stays force");
    assert_eq!(state(&cloud, volume), None);
}

#[test]
fn who_ends_lets_go_of_everything() {
    let (mut cloud, instance) = running();
    let volume = attach_volume(&mut cloud, 'f', instance);
    cloud.converge();
    cloud.guests_obey = false;
    detach(&mut cloud, volume, false);
    cloud.converge();
    cloud.power_off_inside(instance);
    cloud.converge();
    assert_eq!(state(&cloud, volume), None);
}

#[test]
fn an_interface_comes_after_its_tap_and_the_tap_goes_after_it() {
    let (mut cloud, instance) = running();
    let (interface, attachment) = attach_interface(&mut cloud, instance);
    let steps = cloud.converge();
    assert!(matches!(&steps[..], [Step::EnsureInterface(row), Step::AttachDevice(_, device)]
        if row.id == interface && device.id() == DeviceId::Nic(interface)));
    let row = Interface::clone(&cloud.world.interfaces[&interface]);
    let at = row.attachment.unwrap();
    assert_eq!(cloud.world.interface_attachment_state(interface, &at), AttachmentState::Attached);
    cloud.command(|tx| network_interfaces::detach(tx, attachment, false)).unwrap();
    assert_eq!(
        cloud.converge(),
        [
            Step::DetachDevice(instance, DeviceId::Nic(interface), false),
            Step::RemoveInterface(row.vpc, interface)
        ]
    );
    assert_eq!(cloud.world.interfaces[&interface].attachment, None);
}

#[test]
fn what_is_attached_is_there_from_the_next_start_and_what_is_detached_is_not() {
    let (mut cloud, instance) = running();
    let (stays, goes) = (attach_volume(&mut cloud, 'e', instance), attach_volume(&mut cloud, 'f', instance));
    cloud.converge();
    cloud.command(|tx| rules::stop(tx, &[instance], rules::Stop::Asked)).unwrap();
    cloud.converge();
    assert_eq!(state(&cloud, stays), Some(AttachmentState::Attached));
    detach(&mut cloud, goes, false);
    assert_eq!(cloud.converge(), []);
    assert_eq!(state(&cloud, goes), None);
    cloud.command(|tx| rules::start(tx, &[instance])).unwrap();
    let steps = cloud.converge();
    let started = steps.iter().find_map(|step| match step {
        Step::StartMachine(machine) => Some(machine.disks.iter().map(|disk| disk.volume).collect::<Vec<_>>()),
        _ => None,
    });
    let started = started.unwrap();
    assert_eq!((started.len(), started[1]), (2, stays));
    assert!(!steps.iter().any(|step| matches!(step, Step::AttachDevice(..))));
}

#[test]
fn a_volume_grows_where_it_is_and_is_through_when_its_guest_was_told() {
    let (mut cloud, instance) = running();
    let root = VolumeId::clone(cloud.world.volumes.keys().next().unwrap());
    let before = cloud.world.volumes[&root].gib;
    let change = Change { gib: Some(before + 5), ..Change::default() };
    cloud.command(|tx| volumes::modify(tx, root, change)).unwrap();
    let end = |cloud: &Cloud| cloud.world.modification_end(&cloud.world.volumes[&root]);
    assert_eq!(end(&cloud), None);
    let again = cloud.command(|tx| volumes::modify(tx, root, change)).unwrap_err();
    assert_eq!(again.reason, Reason::IncorrectModificationState);
    assert_eq!(cloud.converge(), [Step::GrowDisk(instance, root, u64::from(before + 5) << 30)]);
    assert!(end(&cloud).is_some());
    assert_eq!(cloud.world.volumes[&root].modification.unwrap().gib, before);
}

#[test]
fn speeds_follow_while_the_machine_runs() {
    let (mut cloud, instance) = running();
    let volume = attach_volume(&mut cloud, 'f', instance);
    cloud.converge();
    let id = DeviceId::Disk(volume);
    let limits = |cloud: &mut Cloud| cloud.status(instance).limits_of(id).unwrap();
    let operations = limits(&mut cloud).operations.unwrap();
    assert_eq!((operations.per_second.get(), operations.burst), (100, 5_400_000));

    let performance = Performance { iops: Some(4000), throughput: None };
    let change = Change { gib: Some(8), kind: Some(VolumeKind::Gp3), performance };
    cloud.command(|tx| volumes::modify(tx, volume, change)).unwrap();
    let end = |cloud: &Cloud| cloud.world.modification_end(&cloud.world.volumes[&volume]);
    let (_, steps) = cloud.round();
    assert_eq!(steps, [Step::GrowDisk(instance, volume, 8 << 30)]);
    let (_, steps) = cloud.round();
    assert_eq!(end(&cloud), None, "it is large and not yet fast");
    let wanted = cloud.world.disk_limits(&cloud.world.volumes[&volume]);
    assert_eq!(steps, [Step::LimitDevice(instance, id, wanted)]);
    assert_eq!(cloud.converge(), []);
    assert!(end(&cloud).is_some());
    assert_eq!(limits(&mut cloud).operations.unwrap().per_second.get(), 4000);

    // Somebody has changed it; and a device that is on its way out is left alone.
    cloud.status(instance).disks.get_mut(&volume).unwrap().limits = Limits::default();
    assert_eq!(cloud.converge(), [Step::LimitDevice(instance, id, wanted)]);
    cloud.guests_obey = false;
    detach(&mut cloud, volume, false);
    cloud.converge();
    cloud.status(instance).disks.get_mut(&volume).unwrap().limits = Limits::default();
    assert_eq!(cloud.converge(), []);
}

#[test]
fn an_interface_has_the_bandwidth_of_its_instances_type() {
    let (mut cloud, instance) = running();
    let nic = *cloud.status(instance).nics.keys().next().unwrap();
    let limits = cloud.status(instance).nics[&nic].limits;
    assert_eq!(limits.bytes.unwrap().per_second.get(), 32_000_000 / 8, "of a t3.nano");
    // A machine that began before there were limits.
    cloud.status(instance).nics.get_mut(&nic).unwrap().limits = Limits::default();
    assert_eq!(cloud.converge(), [Step::LimitDevice(instance, DeviceId::Nic(nic), limits)]);
}

#[test]
fn an_operator_may_lift_all_limits_of_what_runs() {
    let (mut cloud, instance) = running();
    let settings = Settings { limit_speeds: false, ..(*cloud.world.settings).clone() };
    cloud.world.settings = Arc::new(settings);
    let devices = cloud.status(instance).disks.len() + cloud.status(instance).nics.len();
    assert_eq!(cloud.converge().len(), devices);
    assert!(cloud.status(instance).disks.values().all(|disk| disk.limits == Limits::default()));
    assert!(cloud.status(instance).nics.values().all(|nic| nic.limits == Limits::default()));
}

#[test]
fn interfaces_whose_packets_nobody_counts_have_no_limits_and_disks_have() {
    let (mut cloud, instance) = running();
    cloud.world.settings = Arc::new(Settings { limit_packets: false, ..(*cloud.world.settings).clone() });
    assert_eq!(cloud.converge().len(), cloud.status(instance).nics.len());
    assert!(cloud.status(instance).nics.values().all(|nic| nic.limits == Limits::default()));
    assert!(cloud.status(instance).disks.values().all(|disk| disk.limits != Limits::default()));
}

#[test]
fn there_are_as_many_places_as_ports() {
    let (mut cloud, instance) = running();
    for letter in ('f'..).take(usize::from(PORTS) - 1) {
        attach_volume(&mut cloud, letter, instance);
    }
    cloud.converge();
    attach_interface(&mut cloud, instance);
    cloud.converge();
    let status = cloud.status(instance);
    assert_eq!((status.disks.len(), status.nics.len(), status.free_ports), (usize::from(PORTS), 2, 0));
    let one_more = volume(&mut cloud, instance);
    let refused = cloud.command(|tx| volumes::attach(tx, one_more, instance, "/dev/sdz")).unwrap_err();
    assert_eq!(refused.reason, Reason::LimitExceeded(Kind::Attachment));
}

#[test]
fn nothing_is_tried_that_cannot_be_done() {
    let (mut cloud, instance) = running();
    // The root disk is in no port; no rule lets it go, and no step tries.
    let root = cloud.world.volumes.values().next().unwrap().clone();
    let attachment =
        root.attachment.clone().map(|at| VolumeAttachment { detach: Some(Detach::Forced), ..at });
    let row = Volume { attachment, ..(*root).clone() };
    let put = |tx: &mut Tx<'_>| {
        tx.put(row.clone());
        Ok::<_, Refusal>(())
    };
    cloud.command(put).unwrap();
    assert_eq!(cloud.converge(), []);
    // A machine that was started without enough ports gets the rest at its next start.
    cloud.status(instance).free_ports = 0;
    let waits = attach_volume(&mut cloud, 'f', instance);
    assert_eq!(cloud.converge(), []);
    assert_eq!(state(&cloud, waits), Some(AttachmentState::Attaching));
    // A machine of a build that does not say what it has is left alone.
    let status = cloud.status(instance);
    (status.disks, status.nics) = Default::default();
    assert_eq!(cloud.converge(), []);
    assert_eq!(state(&cloud, waits), Some(AttachmentState::Attached));
}

#[test]
fn a_disk_that_fails_its_guest_is_impaired_while_that_machine_runs() {
    let (mut cloud, instance) = running();
    let id = attach_volume(&mut cloud, 'f', instance);
    cloud.converge();
    let is_impaired = |cloud: &Cloud| cloud.world.is_impaired(&cloud.world.volumes[&id]);
    assert!(!is_impaired(&cloud));
    let full = "A write failed: No space left on device (os error 28)";
    cloud.status(instance).disks.get_mut(&id).unwrap().failure = Some(full.to_owned());
    cloud.converge();
    assert!(is_impaired(&cloud));
    let root = cloud.world.volumes.values().find(|volume| volume.id != id).unwrap();
    assert!(!cloud.world.is_impaired(root));
    cloud.kill(instance);
    cloud.converge();
    assert!(!is_impaired(&cloud), "the next machine has not seen it");
}
