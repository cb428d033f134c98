//! Random lives: whatever is commanded and whatever happens, the world stays whole and comes to rest.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use cloud::World;
use cloud::capacity::room_for;
use cloud::catalog;
use cloud::model::*;
use cloud::rules::network_interfaces::{self, Attribute, NewInterface};
use cloud::rules::performance::Performance;
use cloud::rules::volumes::{self, Change, NewVolume};
use cloud::rules::{block_devices::BlockDevice, instances as rules, launch::run_instances, security_groups};
use cloud::state::InstanceState;
use common::Cloud;
use spec::control::{DeviceState, EndReason};
use spec::ids::*;
use spec::machine::DeviceId;
use spec::observed::{MachineState, Scope};
use spec::steps::Step;
use tests::small_world::{chance, launch};

/// What must hold of every world, at rest or not.
fn check_world(world: &World) {
    let rows: Vec<Row> = world.rows().collect();
    let keys: BTreeSet<Key> = rows.iter().map(Row::key).collect();
    for row in &rows {
        for referred in row.refers_to() {
            assert!(keys.contains(&referred), "{:?} refers to {referred:?}, which is gone", row.key());
            assert!(world.referrers(referred).any(|key| key == row.key()));
        }
        let text = serde_json::to_string(row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), *row, "a row is read back as it was written");
    }
    check_unique(world.interfaces.values().map(|row| (row.subnet, row.address)), "private address");
    check_unique(world.interfaces.values().filter_map(|row| world.public_address(row)), "public address");
    check_unique(world.interfaces.values().map(|row| row.mac), "link address");
    check_unique(world.instances.values().map(|row| row.user), "user id");
    for interface in world.interfaces.values() {
        let subnet = &world.subnets[&interface.subnet];
        assert!(subnet.cidr.contains(&interface.address));
        assert!(!interface.groups.is_empty());
    }
}

/// The index follows from the rows, whatever the order in which they came.
fn check_index(world: &World) {
    let mut again = World::empty(Arc::clone(&world.settings));
    world.rows().collect::<Vec<_>>().into_iter().rev().for_each(|row| again.put(row));
    assert!(again == *world);
}

fn check_unique<T: Ord + std::fmt::Debug>(things: impl Iterator<Item = T>, what: &str) {
    let mut seen = BTreeSet::new();
    for thing in things {
        let text = format!("{thing:?}");
        assert!(seen.insert(thing), "the {what} {text} is given twice");
    }
}

/// What must hold when there is nothing left to do.
fn check_rest(cloud: &Cloud) {
    let world = &cloud.world;
    for instance in world.instances.values() {
        let state = world.instance_state(instance);
        let up = cloud.host.machines.contains_key(&instance.id);
        match state {
            InstanceState::Running => assert!(up, "{} runs without a machine", instance.id),
            InstanceState::Stopped | InstanceState::Terminated => {
                assert!(!up, "{} left a machine", instance.id)
            }
            other => panic!("{} is at rest in {other:?}", instance.id),
        }
        check_devices(cloud, instance);
        if state == InstanceState::Terminated {
            assert!(world.volumes_of(instance.id).is_empty() && world.interfaces_of(instance.id).is_empty());
        }
    }
    let rows: BTreeSet<VolumeId> = world.volumes.keys().copied().collect();
    assert_eq!(cloud.host.volumes, rows, "as many volumes on the host as rows");
    let wanted = world.interfaces.values().filter(|row| world.wants_interface(row)).count();
    assert_eq!(cloud.host.interfaces.len(), wanted);
    assert_eq!(cloud.host.networks.is_empty(), wanted == 0);
    if cloud.host.networks.is_empty() {
        assert!(cloud.host.groups.is_empty());
    }
}

/// A machine has what it should have, as large as it should be, and besides only what its guest does not let go of.
fn check_devices(cloud: &Cloud, instance: &Instance) {
    let world = &cloud.world;
    let machine = world.wanted_machine(instance).unwrap().machine;
    let Some(MachineState::Running { status: Some(status), .. }) = cloud.host.machines.get(&instance.id)
    else {
        let rows = (world.volumes_of(instance.id), world.interfaces_of(instance.id));
        assert_eq!(
            (rows.0.len(), rows.1.len()),
            (machine.disks.len(), machine.nics.len()),
            "all that leave have left"
        );
        return;
    };
    for disk in &machine.disks {
        let wanted = world.wanted_volume(&world.volumes[&disk.volume]).bytes;
        let found = &status.disks[&disk.volume];
        assert_eq!((found.state, found.bytes), (DeviceState::Attached, wanted), "{}", disk.volume);
    }
    for nic in &machine.nics {
        assert_eq!(status.nics[&nic.interface].state, DeviceState::Attached, "{}", nic.interface);
    }
    let stays = |id| status.state_of(id) == Some(DeviceState::Attached);
    let disks = status.disks.keys().filter(|id| stays(DeviceId::Disk(**id))).count();
    let nics = status.nics.keys().filter(|id| stays(DeviceId::Nic(**id))).count();
    assert_eq!((disks, nics), (machine.disks.len(), machine.nics.len()), "of {}", instance.id);
    for volume in world.volumes_of(instance.id) {
        assert!(volume.modification.is_none() || world.modification_end(volume).is_some(), "{}", volume.id);
    }
}

fn any<T: Copy>(things: &[T], random: u64) -> Option<T> {
    let index = usize::try_from(random % things.len().max(1) as u64).unwrap();
    things.get(index).copied()
}

/// One thing that a user does or that happens.
fn act(cloud: &mut Cloud, image: ImageId, random: &mut impl FnMut() -> u64) {
    let ids: Vec<InstanceId> = cloud.world.instances.keys().copied().collect();
    let one = any(&ids, random());
    let kind = random() % 20;
    match (kind, one) {
        (0..=2, _) | (_, None) => {
            let mut command = launch(image);
            command.most = 1 + u32::try_from(random() % 3).unwrap();
            command.public = [None, Some(false), Some(true)][usize::try_from(random() % 3).unwrap()];
            if random().is_multiple_of(2) {
                command.shutdown_behavior = ShutdownBehavior::Terminate;
            }
            if random().is_multiple_of(3) {
                command.volumes.push(extra_volume(random().is_multiple_of(2)));
            }
            if random().is_multiple_of(3) {
                command.groups.extend(some_group(cloud, random()));
            }
            let before = cloud.world.instances.len();
            if cloud.command(|tx| run_instances(tx, &command)).is_err() {
                assert_eq!(cloud.world.instances.len(), before);
            }
        }
        (3, Some(id)) => drop(cloud.command(|tx| rules::stop(tx, &[id], rules::Stop::Asked))),
        (4, Some(id)) => drop(cloud.command(|tx| rules::stop(tx, &[id], rules::Stop::Forced))),
        (5, Some(id)) => drop(cloud.command(|tx| rules::start(tx, &[id]))),
        (6, Some(id)) => drop(cloud.command(|tx| rules::reboot(tx, &[id]))),
        (7, Some(id)) => drop(cloud.command(|tx| rules::terminate(tx, &[id]))),
        (8, Some(id)) => cloud.power_off_inside(id),
        (9, Some(id)) => cloud.kill(id),
        (10, Some(id)) => {
            let reasons = [EndReason::Crashed, EndReason::Failed, EndReason::Unbuildable];
            cloud.end(id, any(&reasons, random()).unwrap());
        }
        (11, Some(_)) => cloud.guests_obey = !cloud.guests_obey,
        (12..=15, Some(id)) => act_on_volumes(cloud, id, random),
        (_, Some(id)) => act_on_interfaces(cloud, id, random),
    }
}

/// Something is done with volumes, whether that is allowed or not.
fn act_on_volumes(cloud: &mut Cloud, instance: InstanceId, random: &mut impl FnMut() -> u64) {
    let ids: Vec<VolumeId> = cloud.world.volumes.keys().copied().collect();
    let volume = any(&ids, random()).unwrap_or(VolumeId::from_random(0));
    let device = format!("/dev/sd{}", char::from(b'f' + u8::try_from(random() % 9).unwrap()));
    let zone = cloud.world.subnets[&cloud.world.instances[&instance].subnet].zone.clone();
    let new = NewVolume {
        zone,
        gib: 1,
        kind: VolumeKind::Gp2,
        performance: Performance::default(),
        tags: Tags::new(),
        client_token: None,
    };
    let force = random().is_multiple_of(2);
    let change = Change { gib: Some(1 + u32::try_from(random() % 30).unwrap()), ..Change::default() };
    match random() % 6 {
        0 => drop(cloud.command(|tx| volumes::create(tx, &new))),
        1 | 2 => drop(cloud.command(|tx| volumes::attach(tx, volume, instance, &device))),
        3 => drop(cloud.command(|tx| volumes::detach(tx, volume, None, None, force))),
        4 => drop(cloud.command(|tx| volumes::modify(tx, volume, change))),
        _ => drop(cloud.command(|tx| volumes::delete(tx, volume))),
    }
}

/// The same with network interfaces.
fn act_on_interfaces(cloud: &mut Cloud, instance: InstanceId, random: &mut impl FnMut() -> u64) {
    let ids: Vec<InterfaceId> = cloud.world.interfaces.keys().copied().collect();
    let interface = any(&ids, random()).unwrap_or(InterfaceId::from_random(0));
    let attachment = cloud.world.interfaces.get(&interface).and_then(|row| row.attachment.as_ref());
    let attachment = attachment.map_or(InterfaceAttachmentId::from_random(0), |at| at.id);
    let new = NewInterface {
        subnet: cloud.world.instances[&instance].subnet,
        description: String::new(),
        address: None,
        groups: some_group(cloud, random()).into_iter().collect(),
        tags: Tags::new(),
        client_token: None,
    };
    let (force, index) = (random().is_multiple_of(2), u32::try_from(random() % 4).unwrap());
    match random() % 6 {
        0 => drop(cloud.command(|tx| network_interfaces::create(tx, &new))),
        1 | 2 => drop(cloud.command(|tx| network_interfaces::attach(tx, interface, instance, index))),
        3 => drop(cloud.command(|tx| network_interfaces::detach(tx, attachment, force))),
        4 => {
            let goes = Attribute::DeleteOnTermination(attachment, force);
            drop(cloud.command(|tx| network_interfaces::modify(tx, interface, &goes)));
        }
        _ => drop(cloud.command(|tx| network_interfaces::delete(tx, interface))),
    }
}

fn extra_volume(delete_on_termination: bool) -> BlockDevice {
    BlockDevice {
        device: "/dev/sdf".into(),
        gib: Some(2),
        delete_on_termination: Some(delete_on_termination),
        ..BlockDevice::default()
    }
}

/// A group, sometimes a new one that lets another in.
fn some_group(cloud: &mut Cloud, random: u64) -> Option<GroupId> {
    let groups: Vec<GroupId> = cloud.world.security_groups.keys().copied().collect();
    if groups.len() < 4 {
        let name = format!("group {}", groups.len());
        let new =
            security_groups::NewGroup { name, description: "made".into(), vpc: None, tags: Tags::new() };
        let id = cloud.command(|tx| security_groups::create(tx, new.clone())).ok()?;
        let rule = GroupRule {
            direction: Direction::Ingress,
            traffic: spec::network::Traffic::Tcp(22, 22),
            peer: spec::network::Peer::Group(groups[0]),
            description: None,
            tags: Tags::new(),
        };
        cloud.command(|tx| security_groups::authorize(tx, id, vec![rule.clone()])).ok()?;
        return Some(id);
    }
    any(&groups, random)
}

#[test]
fn whatever_happens_the_world_stays_whole_and_comes_to_rest() {
    for seed in 0..20_u64 {
        let (mut cloud, image) = Cloud::new();
        let mut seed = seed;
        let mut random = chance(&mut seed);
        for _ in 0..40 {
            act(&mut cloud, image, &mut random);
            check_world(&cloud.world);
            // Sometimes the loop gets a round in between, sometimes several things happen at once.
            for _ in 0..random() % 3 {
                cloud.round();
                check_world(&cloud.world);
            }
            check_index(&cloud.world);
            cloud.pass_seconds(random() % 40);
        }
        come_to_rest(&mut cloud);
        check_rest(&cloud);
    }
}

/// A look at one instance, with all that stands on each other, settles and plans what a look at everything does.
#[test]
fn a_narrow_look_says_of_its_scope_what_a_wide_one_says() {
    for seed in 0..20_u64 {
        let (mut cloud, image) = Cloud::new();
        let mut seed = seed + 1000;
        let mut random = chance(&mut seed);
        for _ in 0..30 {
            act(&mut cloud, image, &mut random);
            let ids: Vec<InstanceId> = cloud.world.instances.keys().copied().collect();
            if let Some(id) = any(&ids, random()) {
                compare_looks(&cloud, id);
            }
            cloud.round();
            cloud.pass_seconds(random() % 40);
        }
    }
}

fn compare_looks(cloud: &Cloud, id: InstanceId) {
    let mut cloud = cloud.clone();
    let resources = cloud.world.resources_of([Key::Instance(id)]);
    // What is shared depends on the others too, so first all is written down that can be seen of them.
    let others = cloud.world.resources().into_iter().chain(cloud.host.resources());
    let others = Scope::Resources(others.filter(|one| !resources.contains(one)).collect());
    while cloud.look(&others).0 {}
    let scope = Scope::Resources(resources.clone());
    let (mut narrow, mut wide) = (cloud.clone(), cloud.clone());
    let (_, mut narrow_steps) = narrow.look(&scope);
    let (_, mut wide_steps) = wide.look(&Scope::Everything);
    wide_steps.retain(|step| resources.contains(&step.resource()));
    let row = |cloud: &Cloud, key| cloud.world.row(key);
    let keys = cloud.world.referrers(Key::Instance(id)).chain([Key::Instance(id), Key::InstanceStatus(id)]);
    for key in keys.collect::<Vec<_>>() {
        assert_eq!(row(&narrow, key), row(&wide, key), "of {id}");
    }
    // A group that is to go waits for changes of interfaces that a narrow look does not see.
    wide_steps.retain(|step| !matches!(step, Step::RemoveGroup(..)));
    narrow_steps.retain(|step| !matches!(step, Step::RemoveGroup(..)));
    assert_eq!(narrow_steps, wide_steps, "of {id}");
}

/// Rounds until nothing is to be done, whatever time passes.
fn come_to_rest(cloud: &mut Cloud) {
    for _ in 0..100 {
        let steps = cloud.converge();
        check_world(&cloud.world);
        if steps.is_empty() && cloud.world.instances.values().all(|row| at_rest(&cloud.world, row)) {
            return;
        }
        cloud.pass_seconds(20);
    }
    panic!("no rest");
}

fn at_rest(world: &World, instance: &Instance) -> bool {
    use InstanceState::{Running, Stopped, Terminated};
    let state = world.instance_state(instance);
    matches!(state, Running | Stopped | Terminated) && (state != Running || world.is_up(instance.id))
}

#[test]
fn a_full_host_launches_what_fits_and_no_more() {
    let (mut cloud, image) = Cloud::new();
    let kind = catalog::find("t3.nano").unwrap();
    let room = u32::try_from(room_for(&cloud.world, kind)).unwrap();
    let mut command = launch(image);
    (command.least, command.most) = (1, room + 5);
    cloud.command(|tx| run_instances(tx, &command)).unwrap();
    assert_eq!(cloud.world.instances.len(), room as usize);
    let refusal = cloud.command(|tx| run_instances(tx, &launch(image))).unwrap_err();
    assert_eq!(refusal.reason, cloud::Reason::InsufficientCapacity);
    cloud.converge();
    let first = *cloud.world.instances.keys().next().unwrap();
    cloud.command(|tx| rules::stop(tx, &[first], rules::Stop::Forced)).unwrap();
    cloud.converge();
    cloud.command(|tx| run_instances(tx, &launch(image))).unwrap();
    let refusal = cloud.command(|tx| rules::start(tx, &[first])).unwrap_err();
    assert_eq!(refusal.reason, cloud::Reason::InsufficientCapacity);
}
