//! Instances that are hibernated: what is kept, what is used up, and what happens when it cannot be.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use cloud::Reason;
use cloud::plan::SAVE_PATIENCE;
use cloud::rules::instances::{self as rules, Stop};
use cloud::rules::launch::run_instances;
use cloud::rules::volumes;
use cloud::state::InstanceState::*;
use common::Cloud;
use spec::control::{EndReason, Save};
use spec::ids::*;
use spec::steps::Step;
use tests::small_world::launch;

fn running(hibernation: bool) -> (Cloud, InstanceId) {
    let (mut cloud, image) = Cloud::new();
    let mut command = launch(image);
    command.hibernation = hibernation;
    cloud.command(|tx| run_instances(tx, &command)).unwrap();
    cloud.converge();
    let id = *cloud.world.instances.keys().next().unwrap();
    (cloud, id)
}

fn verbs(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::verb).collect()
}

fn started(steps: &[Step]) -> Vec<bool> {
    let started = |step: &Step| match step {
        Step::StartMachine(machine) => Some(machine.resumes),
        _ => None,
    };
    steps.iter().filter_map(started).collect()
}

#[test]
fn it_goes_on_once_from_where_it_was() {
    let (mut cloud, id) = running(true);
    cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap();
    assert_eq!(cloud.world.state_of(id), Stopping);
    assert_eq!(verbs(&cloud.converge())[..1], ["save machine"]);
    assert_eq!((cloud.world.state_of(id), cloud.world.is_saved(id)), (Stopped, true));
    assert!(cloud.host.memories.contains(&id) && cloud.host.machines.is_empty());
    cloud.command(|tx| rules::start(tx, &[id])).unwrap();
    assert_eq!(started(&cloud.converge()), [true]);
    assert_eq!((cloud.world.state_of(id), cloud.world.is_saved(id)), (Running, false));
    // What was saved is used up: one that is lost begins anew.
    cloud.kill(id);
    assert_eq!(started(&cloud.converge()), [false]);
}

#[test]
fn what_cannot_be_saved_is_stopped() {
    let (mut cloud, id) = running(true);
    cloud.guests_obey = false;
    cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap();
    assert_eq!(verbs(&cloud.converge()), ["save machine", "power off machine"]);
    cloud.power_off_inside(id);
    cloud.converge();
    assert_eq!((cloud.world.state_of(id), cloud.world.is_saved(id)), (Stopped, false));
    cloud.command(|tx| rules::start(tx, &[id])).unwrap();
    assert_eq!(started(&cloud.converge()), [false]);
}

#[test]
fn what_is_saved_for_ever_is_stopped_when_patience_ends() {
    let (mut cloud, id) = running(true);
    cloud.guests_obey = false;
    cloud.status(id).save = Some(Save::UnderWay);
    cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap();
    assert_eq!(verbs(&cloud.converge()), [""; 0]);
    cloud.pass_seconds(SAVE_PATIENCE);
    assert_eq!(verbs(&cloud.converge()), ["power off machine"]);
}

#[test]
fn what_cannot_go_on_begins_anew() {
    let (mut cloud, id) = running(true);
    cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap();
    cloud.converge();
    cloud.command(|tx| rules::start(tx, &[id])).unwrap();
    cloud.converge();
    cloud.end(id, EndReason::Unrestorable);
    assert_eq!(started(&cloud.converge()), [false]);
    assert_eq!(cloud.world.state_of(id), Running);
}

#[test]
fn what_was_saved_goes_with_its_instance() {
    let (mut cloud, id) = running(true);
    cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap();
    cloud.converge();
    cloud.command(|tx| rules::terminate(tx, &[id])).unwrap();
    assert!(verbs(&cloud.converge()).contains(&"remove saved machine"));
    assert_eq!(cloud.world.state_of(id), Terminated);
    assert!(cloud.host.memories.is_empty());
}

#[test]
fn it_takes_who_was_launched_for_it_and_keeps_its_devices() {
    let (mut cloud, id) = running(false);
    let refused = cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap_err();
    assert_eq!(refused.reason, Reason::UnsupportedHibernation);
    let (mut cloud, id) = running(true);
    cloud.command(|tx| rules::stop(tx, &[id], Stop::Hibernated)).unwrap();
    cloud.converge();
    let root = cloud.world.volumes_of(id)[0].id;
    let refused = cloud.command(|tx| volumes::detach(tx, root, None, None, false)).unwrap_err();
    assert_eq!(refused.reason, Reason::IncorrectState);
}
