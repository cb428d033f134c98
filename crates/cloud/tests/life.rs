//! An instance's life, from command to host and back.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use cloud::model::*;
use cloud::rules::{instances as rules, launch::run_instances};
use cloud::settle::{MAX_QUICK_FAILURES, TERMINATED_VISIBLE, Trouble};
use cloud::state::InstanceState::*;
use cloud::{Reason, World};
use common::Cloud;
use spec::control::EndReason;
use spec::ids::*;
use spec::observed::MachineState;
use spec::steps::{Resource, Step};
use tests::small_world::launch;

/// The instances of a reservation, in order.
fn instances(world: &World, reservation: ReservationId) -> Vec<InstanceId> {
    let mut rows: Vec<_> = world.instances.values().filter(|row| row.reservation == reservation).collect();
    rows.sort_by_key(|row| row.launch_index);
    rows.iter().map(|row| row.id).collect()
}

fn one_running(cloud: &mut Cloud, image: ImageId) -> InstanceId {
    let reservation = cloud.command(|tx| run_instances(tx, &launch(image))).unwrap();
    let id = instances(&cloud.world, reservation)[0];
    assert_eq!(cloud.world.state_of(id), Pending);
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Running);
    id
}

fn verbs(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::verb).collect()
}

#[test]
fn a_launch_goes_from_the_ground_up_and_a_terminate_back_to_nothing() {
    let (mut cloud, image) = Cloud::new();
    assert_eq!(cloud.converge(), [], "a cloud at rest wants nothing of its host");
    cloud.command(|tx| run_instances(tx, &launch(image))).unwrap();
    let up = verbs(&cloud.converge());
    assert_eq!(
        up,
        ["set up network", "create volume", "set up security group", "set up interface", "start machine"]
    );
    let id = *cloud.world.instances.keys().next().unwrap();
    cloud.command(|tx| rules::terminate(tx, &[id])).unwrap();
    assert_eq!(cloud.world.state_of(id), ShuttingDown);
    assert_eq!(
        verbs(&cloud.converge()),
        ["power off machine", "remove network", "clear away machine", "remove volume"]
    );
    assert_eq!(cloud.world.state_of(id), Terminated);
    assert!(
        cloud.host.machines.is_empty() && cloud.host.volumes.is_empty() && cloud.host.networks.is_empty()
    );
    assert!(cloud.world.volumes.is_empty() && cloud.world.interfaces.is_empty());
    cloud.pass_seconds(TERMINATED_VISIBLE - 1);
    cloud.converge();
    assert_eq!(cloud.world.instances.len(), 1, "visible for an hour");
    cloud.pass_seconds(1);
    cloud.converge();
    assert!(cloud.world.instances.is_empty() && cloud.world.instance_statuses.is_empty());
}

#[test]
fn stop_and_start_keep_the_private_address_and_change_the_public_one() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    let addresses = |cloud: &Cloud| {
        let row = cloud.world.primary_interface(id).unwrap();
        (row.address, cloud.world.public_address(row))
    };
    let (private, public) = addresses(&cloud);
    cloud.command(|tx| rules::stop(tx, &[id], rules::Stop::Asked)).unwrap();
    assert_eq!(cloud.world.state_of(id), Stopping);
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Stopped);
    assert_eq!(addresses(&cloud), (private, None));
    assert!(cloud.host.machines.is_empty() && cloud.host.networks.is_empty());
    assert_eq!(cloud.host.volumes.len(), 1, "the root volume stays");
    cloud.command(|tx| rules::start(tx, &[id])).unwrap();
    assert_eq!(cloud.world.state_of(id), Pending);
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Running);
    let (private_again, public_again) = addresses(&cloud);
    assert_eq!(private_again, private);
    assert!(public_again.is_some() && public_again != public, "{public:?} then {public_again:?}");
}

#[test]
fn a_guest_that_ignores_the_power_button_is_killed_when_patience_ends() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.guests_obey = false;
    cloud.command(|tx| rules::stop(tx, &[id], rules::Stop::Asked)).unwrap();
    assert_eq!(verbs(&cloud.converge()), ["power off machine"]);
    cloud.pass_seconds(cloud::plan::STOP_PATIENCE - 1);
    assert_eq!(verbs(&cloud.converge()), [""; 0]);
    cloud.pass_seconds(1);
    assert_eq!(verbs(&cloud.converge())[0], "kill machine");
    assert_eq!(cloud.world.state_of(id), Stopped);
}

#[test]
fn force_does_not_ask() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.command(|tx| rules::stop(tx, &[id], rules::Stop::Forced)).unwrap();
    assert_eq!(verbs(&cloud.converge())[0], "kill machine");
}

#[test]
fn a_guests_own_power_off_obeys_its_shutdown_behaviour() {
    for (behavior, state) in [(ShutdownBehavior::Stop, Stopped), (ShutdownBehavior::Terminate, Terminated)] {
        let (mut cloud, image) = Cloud::new();
        let mut command = launch(image);
        command.shutdown_behavior = behavior;
        cloud.command(|tx| run_instances(tx, &command)).unwrap();
        cloud.converge();
        let id = *cloud.world.instances.keys().next().unwrap();
        cloud.power_off_inside(id);
        cloud.converge();
        assert_eq!(cloud.world.state_of(id), state);
        assert!(cloud.host.machines.is_empty());
    }
}

#[test]
fn a_stopped_instance_starts_again_after_its_guest_powered_off() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.power_off_inside(id);
    cloud.converge();
    cloud.command(|tx| rules::start(tx, &[id])).unwrap();
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Running);
    assert_eq!(cloud.world.instance_statuses[&id].run.incarnation, 2);
}

#[test]
fn a_killed_machine_comes_back_with_backoff_and_is_given_up_in_the_end() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.kill(id);
    let steps = cloud.converge();
    assert_eq!(verbs(&steps), ["start machine"], "the first time at once");
    assert_eq!(cloud.world.instance_statuses[&id].run.attempt, 2);
    let mut waited = 0;
    for _ in 1..MAX_QUICK_FAILURES {
        assert_eq!(cloud.world.state_of(id), Running);
        cloud.kill(id);
        while cloud.converge().is_empty() && cloud.world.over(&cloud.world.instances[&id].clone()).is_none() {
            cloud.pass_seconds(1);
            waited += 1;
        }
    }
    assert!(waited > 60, "waited {waited} s in all");
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Terminated, "a first life that cannot be kept up is terminated");
    assert!(cloud.host.machines.is_empty());
}

#[test]
fn a_machine_that_lasted_starts_its_count_anew() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    for _ in 0..3 * MAX_QUICK_FAILURES {
        cloud.pass_seconds(cloud::settle::LASTED);
        cloud.kill(id);
        cloud.converge();
        assert_eq!(cloud.world.state_of(id), Running);
    }
    assert_eq!(cloud.world.instance_statuses[&id].run.attempt, 3 * MAX_QUICK_FAILURES + 1);
}

#[test]
fn a_host_that_was_switched_off_starts_what_should_run() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.host.machines.clear();
    cloud.host.networks.clear();
    cloud.host.groups.clear();
    cloud.host.interfaces.clear();
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Running);
    assert_eq!(cloud.host.machines.len(), 1);
}

#[test]
fn an_unbuildable_machine_is_not_tried_again() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.end(id, EndReason::Unbuildable);
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Terminated);
    let over = cloud.world.instance_statuses[&id].over.clone().unwrap();
    assert!(matches!(over.why, WhyOver::GivenUp { reason: Some(EndReason::Unbuildable), .. }));
}

#[test]
fn a_lasting_trouble_with_a_volume_ends_the_launch() {
    let (mut cloud, image) = Cloud::new();
    cloud.host.images.clear();
    let reservation = cloud.command(|tx| run_instances(tx, &launch(image))).unwrap();
    let id = instances(&cloud.world, reservation)[0];
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Pending);
    let trouble = Trouble { lasting: true, message: "The image cannot be booted".into() };
    cloud.troubles.insert(Resource::Machine(id), trouble);
    cloud.converge();
    assert_eq!(cloud.world.state_of(id), Terminated);
    assert_eq!(cloud.world.instance_statuses[&id].trouble.as_deref(), Some("The image cannot be booted"));
}

#[test]
fn a_reboot_is_done_once() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.command(|tx| rules::reboot(tx, &[id])).unwrap();
    assert_eq!(verbs(&cloud.converge()), ["reboot machine"]);
    assert_eq!(verbs(&cloud.converge()), [""; 0]);
    let MachineState::Running { status: Some(status), .. } = &cloud.host.machines[&id] else { panic!() };
    assert_eq!((status.reboots, status.resets), (1, 1));
    assert_eq!(cloud.news, [""; 0], "what was asked for is no news");
}

#[test]
fn a_guest_that_was_asked_to_reboot_is_not_asked_again() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.command(|tx| rules::reboot(tx, &[id])).unwrap();
    let Some(MachineState::Running { status: Some(status), .. }) = cloud.host.machines.get_mut(&id) else {
        panic!()
    };
    status.rebooting = Some(1);
    assert_eq!(cloud.converge(), []);
    cloud.command(|tx| rules::reboot(tx, &[id])).unwrap();
    assert_eq!(verbs(&cloud.converge()), ["reboot machine"], "but for another reboot it is");
}

#[test]
fn what_befalls_a_machine_unasked_is_news() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    let Some(MachineState::Running { status: Some(status), .. }) = cloud.host.machines.get_mut(&id) else {
        panic!()
    };
    status.panicked = true;
    cloud.converge();
    let Some(MachineState::Running { status: Some(status), .. }) = cloud.host.machines.get_mut(&id) else {
        panic!()
    };
    (status.panicked, status.resets) = (false, 1);
    cloud.converge();
    cloud.kill(id);
    cloud.converge();
    cloud.power_off_inside(id);
    cloud.converge();
    let told = [
        "says that its guest's kernel panicked",
        "was reset by its guest",
        "was lost and is started again (attempt 2): The machine's process was killed",
        "was powered off by its guest",
    ];
    assert_eq!(cloud.news, told.map(|what| format!("the machine of {id} {what}")));
}

#[test]
fn a_stray_machine_is_killed_and_an_unknown_volume_is_left_alone() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    let stray = InstanceId::from_random(0xabcd);
    let state = cloud.host.machines[&id].clone();
    cloud.host.machines.insert(stray, state);
    cloud.host.volumes.insert(VolumeId::from_random(0xabcd));
    assert_eq!(verbs(&cloud.converge()), ["kill machine", "clear away machine"]);
    assert_eq!(cloud.host.volumes.len(), 2);
}

#[test]
fn an_images_disk_goes_when_its_last_volume_has() {
    let (mut cloud, image) = Cloud::new();
    let id = one_running(&mut cloud, image);
    cloud.command(|tx| cloud::rules::images::deregister(tx, image)).unwrap();
    assert_eq!(cloud.converge(), []);
    let again = cloud.command(|tx| run_instances(tx, &launch(image)));
    assert_eq!(again.unwrap_err().reason, Reason::NotFound(cloud::refusal::Kind::Image));
    cloud.command(|tx| rules::terminate(tx, &[id])).unwrap();
    cloud.converge();
    assert!(cloud.host.images.is_empty() && cloud.world.images.is_empty());
}
