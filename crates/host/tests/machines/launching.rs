//! What a launched process is given, and what becomes of a launch that fails or is cut short.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use host::ErrorKind;
use serde_json::Value;
use spec::machine::{Disk, Limits, Machine};

use crate::world::{INSTANCE, USER, VOLUME, World, eventually, fake_monitor, machine};

/// A line of /proc/PID/status.
fn line<'r>(report: &'r Value, name: &str) -> Vec<&'r str> {
    let status = report["status"].as_str().unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_ascii_whitespace().collect()
}

#[test]
fn a_process_is_alone_and_has_what_it_was_handed_and_nothing_else() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    let report: Value = serde_json::from_str(&world.say("report")).unwrap();

    let user = USER.to_string();
    assert_eq!(line(&report, "Uid"), [&user; 4]);
    assert_eq!(line(&report, "Gid"), [&user; 4]);
    assert_eq!(line(&report, "Groups"), [""; 0]);
    // The one by which it leaves the host's namespaces, and which no set lets it have again.
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(line(&report, set), ["0000000000200000"], "{set}");
    }
    assert_eq!(line(&report, "CapBnd"), ["0000000000000000"]);
    assert_eq!(line(&report, "NSpid").last(), Some(&"1"));
    assert_eq!(line(&report, "NoNewPrivs"), ["1"]);
    assert_eq!(line(&report, "SigBlk"), ["0000000000000000"]);
    assert_eq!(line(&report, "Umask"), ["0077"]);
    assert_eq!(report["folder"], "/");

    // Nobody's child: its parent is whoever adopts orphans, and its session is the vanished child's.
    let stat: Vec<&str> = report["stat"].as_str().unwrap().rsplit(") ").next().unwrap().split(' ').collect();
    assert_ne!(stat[1], std::process::id().to_string(), "parent");
    assert_ne!(stat[3], nix::unistd::getsid(None).unwrap().to_string(), "session");

    let environment = report["environment"].as_array().unwrap();
    assert_eq!(environment.len(), 1, "{environment:?}");
    assert_eq!(report["arguments"], format!("cumulet-vmm {INSTANCE}\0"));
    let group = format!("/{}/{INSTANCE}\n", world.places.group);
    assert!(report["cgroup"].as_str().unwrap().lines().any(|line| line.ends_with(group.trim_end())));
    let limits = report["limits"].as_str().unwrap();
    assert!(
        limits.lines().any(|line| line.starts_with("Max file size") && line.contains("1073741824")),
        "{limits}"
    );

    let log = world.places.logs.join(format!("{INSTANCE}.monitor"));
    assert_eq!(report["standard"], serde_json::json!(["/dev/null", "/dev/null", log]));
    assert!(fs::read_to_string(log).unwrap().contains("runs"));
    let names: Vec<&String> = report["names"].as_object().unwrap().keys().collect();
    let volume = |part: &str| format!("{VOLUME}.{part}");
    let mut expected =
        ["console", "console-ring", "control", "ending", "initrd", "kernel", "kvm", "lock", "spec"]
            .map(str::to_owned)
            .to_vec();
    expected.extend([volume("base"), volume("data"), volume("map")]);
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
    assert_eq!(report["open_at_first"], 3 + names.len(), "something else was left open");
}

#[test]
fn a_group_bounds_what_the_type_allows() {
    let Some(world) = World::new() else { return };
    let two = Machine { vcpus: 2, ..machine(1) };
    world.start(&two).unwrap();
    let group = world.group().join(INSTANCE.to_string());
    let readers = world.group().join("readers");
    let disk = world.storage.disk().unwrap();
    let mut tried = 0;
    let mut check =
        |group: &Path, file: &str, holds: &dyn Fn(&str) -> bool| match fs::read_to_string(group.join(file)) {
            Ok(text) => {
                assert!(holds(text.trim_end()), "{file}: {text}");
                tried += 1;
            }
            Err(_) => eprintln!("not tried: no {file} here, so its controller is of version 1, or missing"),
        };
    check(&group, "memory.max", &|text| text == ((64 + 256) << 20).to_string());
    check(&group, "pids.max", &|text| text == "130");
    check(&group, "cpu.max", &|text| text == "300000 100000");
    check(&group, "cpu.weight", &|text| text == "200");
    check(&group, "io.weight", &|text| text == "default 200");
    match disk {
        Some(_) => check(&group, "io.max", &|text| {
            text.ends_with(" rbps=260625000 wbps=260625000 riops=11800 wiops=11800")
        }),
        None => eprintln!("not tried: the volumes are on no single disk"),
    }
    check(&readers, "memory.max", &|text| text == (2_u64 << 30).to_string());
    check(&readers, "pids.max", &|text| text == "64");
    check(&readers, "cgroup.procs", &str::is_empty);
    assert!(tried > 0);
}

#[test]
fn a_run_is_launched_once() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    let process = world.say("report");
    world.start(&machine(1)).unwrap();
    let pid = |report: &str| line(&serde_json::from_str(report).unwrap(), "Pid").join("");
    assert_eq!(pid(&world.say("report")), pid(&process));
    let error = world.start(&machine(2)).unwrap_err();
    assert_eq!(error.to_string(), format!("Machine {INSTANCE} still runs, run 1.1"));
    assert!(world.answers_in(1));
}

#[test]
fn a_disk_in_use_is_not_given_twice_and_not_removed() {
    let Some(world) = World::new() else { return };
    world.start(&machine(1)).unwrap();
    let other = Machine { instance: spec::ids::InstanceId::from_random(9), ..machine(1) };
    let error = world.start(&other).unwrap_err();
    assert_eq!(
        error.chain(),
        format!("Could not open volume {VOLUME}: The volume is in use by another process")
    );
    assert!(world.storage.remove_volume(VOLUME).is_err());
    world.machines.kill(INSTANCE).unwrap();
    world.machines.remove(INSTANCE, &world.storage.memories).unwrap();
    world.storage.remove_volume(VOLUME).unwrap();
    assert_eq!(world.remains(), [""; 0]);
}

#[test]
fn a_launch_that_fails_says_where_and_leaves_nothing() {
    let Some(mut world) = World::new() else { return };
    let no_program = world.folder.join("no-program");
    fs::write(&no_program, "not a program").unwrap();
    world.places.program = no_program.clone();
    world.restart();
    let failure = |world: &World, machine: &Machine| {
        let error = world.start(machine).unwrap_err();
        assert_eq!(world.remains(), [""; 0]);
        assert_eq!(world.state(), None);
        error
    };
    let what = format!("Could not start the process of machine {INSTANCE}");
    let error = failure(&world, &machine(1));
    assert_eq!(
        error.chain(),
        format!("{what}: Could not execute the program: Permission denied (os error 13)")
    );
    assert_eq!(error.kind, ErrorKind::Passing);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&no_program, fs::Permissions::from_mode(0o755)).unwrap();
    let error = failure(&world, &machine(1));
    assert_eq!(
        error.chain(),
        format!("{what}: Could not execute the program: Exec format error (os error 8)")
    );

    world.places.program = fake_monitor();
    world.restart();
    assert_eq!(failure(&world, &Machine { user: 0, ..machine(1) }).kind, ErrorKind::Lasting);
    let elsewhere =
        Disk { volume: spec::ids::VolumeId::from_random(77), read_only: false, limits: Limits::default() };
    let error = failure(&world, &Machine { disks: vec![elsewhere], ..machine(1) });
    assert!(error.chain().contains("Could not open the volume's part \"data\""), "{}", error.chain());
    world.start(&machine(1)).unwrap();
    assert!(world.answers_in(1));
}

#[test]
fn a_launcher_killed_at_any_moment_leaves_what_the_next_start_completes() {
    let Some(world) = World::new() else { return };
    fs::write(world.folder.join("machine.json"), serde_json::to_vec(&machine(1)).unwrap()).unwrap();
    let launch = || {
        let mut launcher = Command::new(fake_monitor());
        launcher.arg("launch").arg(&world.folder).stderr(Stdio::null()).spawn().unwrap()
    };
    let end = || {
        world.machines.kill(INSTANCE).unwrap();
        world.machines.remove(INSTANCE, &world.storage.memories).unwrap();
        assert_eq!(world.remains(), [""; 0]);
    };
    let begin = Instant::now();
    assert!(launch().wait().unwrap().success());
    let whole = begin.elapsed();
    assert!(world.answers_in(1));
    end();
    for round in 0..40 {
        let mut launcher = launch();
        sleep(whole * round / 30);
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        let found = world.state();
        // A process that it was just making has all its descriptors, the lock's too, until it becomes another program.
        eventually(|| world.start(&machine(1)).ok());
        assert!(world.answers_in(1), "killed in round {round}, then found: {found:?}");
        assert_eq!(world.say("hello"), "you said hello");
        end();
    }
}
