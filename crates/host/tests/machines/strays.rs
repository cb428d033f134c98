//! What nobody knows of: it is found, cleared by a start, and gone after a teardown.

use std::fs;
use std::process::Command;

use spec::ids::InstanceId;
use spec::observed::MachineState;

use crate::world::{INSTANCE, World, machine};

#[test]
fn folders_and_groups_that_are_left_over_are_seen_and_cleared() {
    let Some(mut world) = World::new() else { return };
    let lost = |run| Some(MachineState::Lost { run });
    let unlaunched = |world: &World| {
        fs::create_dir(world.places.machines.join(INSTANCE.to_string())).unwrap();
        fs::write(world.places.machines.join(format!("{INSTANCE}/lock")), "").unwrap();
        assert_eq!(world.state(), lost(None));
    };
    unlaunched(&world);
    world.machines.remove(INSTANCE, &world.storage.memories).unwrap();
    assert_eq!(world.state(), None);
    unlaunched(&world);
    world.restart();
    assert_eq!(world.state(), None, "nothing ran in it, so a new daemon takes it away");

    // A process in a group of ours, and no folder.
    fs::create_dir_all(world.group().join(INSTANCE.to_string())).unwrap();
    let mut stray = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(world.group().join(format!("{INSTANCE}/cgroup.procs")), stray.id().to_string()).unwrap();
    assert_eq!(world.state(), lost(None));
    // The child is ours to reap, so it is waited for beside.
    let reaped = std::thread::spawn(move || stray.wait().unwrap());
    world.start(&machine(1)).unwrap();
    assert!(!reaped.join().unwrap().success());
    assert!(world.answers_in(1));
}

#[test]
fn a_scope_is_kept_to() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    let mut observed = spec::observed::Observed::default();
    let scope = |resource| spec::observed::Scope::Resources([resource].into());
    let other = spec::steps::Resource::Machine(InstanceId::from_random(50));
    world.machines.observe(&scope(other), &mut observed).unwrap();
    assert!(observed.machines.is_empty());
    world.machines.observe(&scope(spec::steps::Resource::Machine(INSTANCE)), &mut observed).unwrap();
    assert_eq!(observed.machines.len(), 1);
}

#[test]
fn a_teardown_leaves_no_process_no_folder_and_no_group() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    fs::create_dir_all(world.group().join("i-00000000000000063")).unwrap();
    let (done, result) = world.teardown();
    result.unwrap();
    assert_eq!(
        done,
        [format!("Removed machine {INSTANCE}"), "Removed machine i-00000000000000063".to_owned()]
    );
    assert_eq!(world.remains(), [""; 0]);
    assert!(!world.group().exists());
}
