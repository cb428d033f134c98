//! A machine's life as its host sees it: hints, console, power, reboot, death, and a daemon that begins anew.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use spec::control::EndReason;
use spec::ids::InstanceId;
use spec::machine::Machine;
use spec::observed::MachineState;
use spec::steps::Resource;
use volume::{Access, Volume};

use crate::world::{INSTANCE, VOLUME, World, eventually, machine};

/// Waits for hints until one look after a hint shows what is waited for.
fn hinted(hints: &Receiver<Resource>, mut see: impl FnMut() -> bool) {
    loop {
        let hint = hints.recv_timeout(Duration::from_secs(20)).expect("a hint");
        assert_eq!(hint, Resource::Machine(INSTANCE));
        if see() {
            return;
        }
    }
}

fn status(world: &World) -> Option<spec::control::Status> {
    match world.state() {
        Some(MachineState::Running { status, .. }) => status,
        _ => None,
    }
}

#[test]
fn a_machine_is_seen_up_rebooted_and_off_by_hints_alone() {
    let Some(world) = World::new() else { return };
    let hints = world.machines.hints().unwrap();
    assert!(world.machines.hints().is_none(), "there is one receiver");
    world.start(&machine(1)).unwrap();
    hinted(&hints, || status(&world).is_some());
    world.machines.reboot(INSTANCE, 3).unwrap();
    hinted(&hints, || status(&world).is_some_and(|status| (status.reboots, status.resets) == (3, 1)));
    world.machines.power_off(INSTANCE).unwrap();
    let ending = |world: &World| match world.state() {
        Some(MachineState::Ended(ending)) => Some(ending),
        _ => None,
    };
    hinted(&hints, || ending(&world).is_some());
    let ending = ending(&world).unwrap();
    assert_eq!((ending.run, ending.reason), (machine(1).run, EndReason::PoweredOff));
    assert_eq!(world.machines.power_off(INSTANCE).unwrap_err().kind, host::ErrorKind::NotFound);

    world.machines.remove(INSTANCE, &world.storage.memories).unwrap();
    world.machines.remove(INSTANCE, &world.storage.memories).unwrap();
    assert_eq!(world.state(), None);
    assert_eq!(world.remains(), [""; 0]);
}

#[test]
fn a_saved_machine_goes_on_once() {
    let Some(world) = World::new() else { return };
    let memories = &world.storage.memories;
    let saved = |world: &World| world.found().memories.contains(&INSTANCE);
    let machine = |attempt| Machine { hibernates: true, ..machine(attempt) };
    world.start(&machine(1)).unwrap();
    // One that answers is asked; one that ends before it does is asked no more.
    let _ = world.machines.save(INSTANCE, memories);
    eventually(|| matches!(world.state(), Some(MachineState::Ended(_))).then_some(()));
    assert!(!saved(&world), "not before its end was seen");
    world.machines.remove(INSTANCE, memories).unwrap();
    assert!(saved(&world));
    world.start(&Machine { resumes: true, ..machine(2) }).unwrap();
    assert!(!saved(&world) && world.answers_in(2));
    let console = || String::from_utf8(world.machines.console_output(INSTANCE).unwrap()).unwrap();
    eventually(|| console().ends_with("saved-state saved-memory").then_some(()));
    // Killed while it saves, it saved nothing; and who begins anew has no use for what was saved before.
    memories.make(INSTANCE).unwrap();
    world.machines.kill(INSTANCE).unwrap();
    world.machines.remove(INSTANCE, memories).unwrap();
    assert!(!saved(&world));
    memories.make(INSTANCE).unwrap();
    memories.keep(INSTANCE).unwrap();
    world.start(&machine(3)).unwrap();
    assert!(!saved(&world));
}

#[test]
fn a_new_daemon_finds_what_runs_and_hears_of_its_end() {
    let Some(mut world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    world.restart();
    let hints = world.machines.hints().unwrap();
    assert!(world.answers_in(1));
    world.start(&machine(1)).unwrap();
    let vanished = world.machines.attach_console(INSTANCE).unwrap();
    std::io::Write::write_all(&mut &vanished, b"vanish\n").unwrap();
    hinted(
        &hints,
        || matches!(world.state(), Some(MachineState::Lost { run: Some(run) }) if run == machine(1).run),
    );
}

#[test]
fn the_killed_are_lost_and_started_again_on_the_same_disk() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    assert_eq!(world.say("write"), "written");
    world.machines.kill(INSTANCE).unwrap();
    assert_eq!(world.state(), Some(MachineState::Lost { run: Some(machine(1).run) }));
    world.machines.kill(INSTANCE).unwrap();
    world.start(&machine(2)).unwrap();
    assert!(world.answers_in(2));
    assert!(world.machines.remove(INSTANCE, &world.storage.memories).is_err(), "it runs");
    world.machines.kill(INSTANCE).unwrap();
    let volume =
        Volume::open(world.storage.open_volume(VOLUME, Access::Read).unwrap(), Access::Read).unwrap();
    let mut found = [0; 20];
    volume.read_at(&mut found, 1 << 22).unwrap();
    assert_eq!(&found, b"written by a machine");
}

#[test]
fn the_console_is_read_while_it_runs_and_afterwards() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.machines.console_output(INSTANCE).unwrap(), b"");
    world.start(&machine(1)).unwrap();
    let expected = "4096 1.1 root=/dev/vda one=two";
    let read = || String::from_utf8(world.machines.console_output(INSTANCE).unwrap()).unwrap();
    eventually(|| (read() == expected).then_some(()));
    assert_eq!(world.say("hello"), "you said hello");
    world.machines.kill(INSTANCE).unwrap();
    world.machines.remove(INSTANCE, &world.storage.memories).unwrap();
    assert_eq!(read(), expected);
    let nobody = world.machines.attach_console(InstanceId::from_random(99)).unwrap_err();
    assert_eq!(nobody.kind, host::ErrorKind::NotFound);
    // What was said an hour ago by a machine that is gone is forgotten, by the next look at everything: nothing else need happen.
    let age = |minutes: u64| {
        for kind in ["console", "monitor"] {
            let path = world.places.logs.join(format!("{INSTANCE}.{kind}"));
            let then = std::time::SystemTime::now() - Duration::from_secs(60 * minutes);
            std::fs::File::open(path).unwrap().set_modified(then).unwrap();
        }
        world.found();
    };
    std::fs::write(world.places.logs.join("another"), "").unwrap();
    age(59);
    assert_eq!(read(), expected);
    age(61);
    assert_eq!(read(), "");
    let left: Vec<_> =
        std::fs::read_dir(&world.places.logs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["another"]);
}

#[test]
fn a_machine_that_hangs_holds_nobody_up() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    assert!(world.answers_in(1));
    let freeze =
        |value: &str| std::fs::write(world.group().join(INSTANCE.to_string()).join("cgroup.freeze"), value);
    freeze("1").unwrap();
    let begin = std::time::Instant::now();
    let state = world.state();
    assert!(matches!(state, Some(MachineState::Running { run: Some(_), status: None })), "{state:?}");
    assert!(begin.elapsed() < Duration::from_secs(2));
    world.machines.kill(INSTANCE).unwrap();
    assert!(matches!(world.state(), Some(MachineState::Lost { .. })));
}
