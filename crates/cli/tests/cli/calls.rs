//! Asking: lists, names, refusals, and what cannot be asked at all.

use std::io::{Read, Write};
use std::net::TcpListener;

use ec2::shapes::images::{Image, ImageBlockDeviceMapping, ImageEbsBlockDevice, ImageState};
use ec2::shapes::instance_types::InstanceTypeInfo;
use ec2::shapes::instances::InstanceStateName::{Pending, Running, ShuttingDown, Stopped, Terminated};
use ec2::shapes::volumes::{Volume, VolumeAttachment, VolumeState};
use serde_json::json;

use crate::fake::Fake;
use crate::user::{Ran, User};

const ONE: &str = "i-00000000000000001";
const TWO: &str = "i-00000000000000002";

fn image(id: &str, name: &str) -> Image {
    let ebs = Some(ImageEbsBlockDevice { volume_size: 2, ..Default::default() });
    Image {
        image_id: id.into(),
        name: name.into(),
        image_state: ImageState::Available,
        architecture: "x86_64".into(),
        root_device_name: "/dev/xvda".into(),
        block_device_mapping: vec![ImageBlockDeviceMapping { device_name: "/dev/xvda".into(), ebs }],
        ..Default::default()
    }
}

#[test]
fn instances_of_all_pages_are_listed_without_those_that_ended() {
    let fake = Fake::start();
    let user = User::of(&fake);
    for (id, name, state) in [
        (ONE, "web", Running),
        (TWO, "old", Terminated),
        ("i-00000000000000003", "db", Stopped),
        ("i-00000000000000004", "", Pending),
        ("i-00000000000000005", "batch", Running),
    ] {
        fake.instance(id, name, state);
    }
    fake.world.lock().describes_until_running = 100;
    let listed = user.run(&["ls"]).ok();
    let column = |number: usize| -> Vec<&str> {
        listed.lines().map(|line| line.split_whitespace().nth(number).unwrap_or_default()).collect()
    };
    assert_eq!(column(1), ["NAME", "web", "db", "-", "batch"], "{listed}");
    assert_eq!(column(2), ["STATE", "running", "stopped", "pending", "running"]);
    assert!(user.run(&["instances", "--all"]).ok().contains("terminated"));

    let listed: serde_json::Value =
        serde_json::from_str(&user.run(&["instances", "--output", "json"]).ok()).unwrap();
    assert_eq!(listed[0]["id"], ONE);
    assert_eq!(listed[0]["private_ip"], "172.31.0.4");
    assert_eq!(listed[0]["public_ip"], json!(null));
    assert_eq!(listed.as_array().map(Vec::len), Some(4));
}

#[test]
fn an_empty_list_is_empty_on_stdout_and_says_what_to_do_elsewhere() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let ran = user.run(&["instances"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("next: cumulet run"), "{}", ran.stderr);
    assert_eq!(user.run(&["images", "--output", "json"]).ok(), "[]\n");
}

#[test]
fn images_volumes_and_types_are_listed() {
    let fake = Fake::start();
    let user = User::of(&fake);
    {
        let mut world = fake.world.lock();
        world.images = vec![image("ami-00000002", "tiny"), image("ami-00000001", "debian")];
        let attachment =
            VolumeAttachment { instance_id: ONE.into(), device: "/dev/xvda".into(), ..Default::default() };
        world.volumes = vec![Volume {
            volume_id: "vol-00000001".into(),
            size: 8,
            status: VolumeState::InUse,
            attachment_set: vec![attachment],
            ..Default::default()
        }];
        let mut large = InstanceTypeInfo { instance_type: "t3.large".into(), ..Default::default() };
        large.memory_info.size_in_mib = 8192;
        let mut nano = InstanceTypeInfo { instance_type: "t3.nano".into(), ..Default::default() };
        nano.memory_info.size_in_mib = 512;
        world.types = vec![large, nano];
    }
    let images = user.run(&["images"]).ok();
    let names: Vec<_> =
        images.lines().map(|line| line.split_whitespace().nth(1).unwrap_or_default()).collect();
    assert_eq!(names, ["NAME", "debian", "tiny"]);
    assert!(images.contains("available  x86_64        2 "), "{images}");
    let volumes: serde_json::Value =
        serde_json::from_str(&user.run(&["volumes", "--output", "json"]).ok()).unwrap();
    assert_eq!((&volumes[0]["state"], &volumes[0]["instance"]), (&json!("in-use"), &json!(ONE)));
    let types = user.run(&["types"]).ok();
    assert!(types.lines().nth(1).is_some_and(|line| line.starts_with("t3.nano ")), "{types}");
}

#[test]
fn status_says_who_asks_whom() {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.instance(ONE, "web", Running);
    fake.instance(TWO, "old", Terminated);
    let status: serde_json::Value =
        serde_json::from_str(&user.run(&["status", "--output", "json"]).ok()).unwrap();
    assert_eq!(status["endpoint"], format!("http://{}", fake.address));
    assert_eq!(status["account"], "123456789012");
    assert_eq!((&status["instances"], &status["running"]), (&json!(1), &json!(1)));
    assert_eq!(status["key_from"], user.client().display().to_string());
    let ran = user.run(&["status"]);
    assert!(ran.stdout.contains("ACCOUNT    123456789012\n"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "next: cumulet instances\n");
}

#[test]
fn instances_are_ended_by_id_and_by_a_name_that_is_clear() {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.instance(ONE, "web", Running);
    fake.instance(TWO, "web", ShuttingDown);
    fake.instance("i-00000000000000003", "web", Stopped);
    let refused = user.run(&["rm", "web"]).refused();
    assert!(
        refused.contains("2 instances are named web: i-00000000000000001, i-00000000000000003"),
        "{refused}"
    );
    assert_eq!(fake.world.lock().instances.len(), 3);

    assert!(user.run(&["rm", ONE]).ok().contains("shutting-down"));
    assert!(user.run(&["rm", "web"]).ok().contains("i-00000000000000003"));
    let refused = user.run(&["rm", "web"]).refused();
    assert_eq!(
        refused,
        "cumulet: There is no instance named web\nhint: see what there is: cumulet instances\n"
    );
    let refused = user.run(&["rm", ONE]).refused();
    assert!(
        refused.contains("The instance ID 'i-00000000000000001' does not exist (InvalidInstanceID.NotFound)")
    );
}

#[test]
fn power_is_switched_by_name() {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.instance(ONE, "web", Running);
    let state = || fake.world.lock().instances[0].instance_state.name;
    let stopped = user.run(&["stop", "web"]);
    assert!(stopped.stderr.contains("next: cumulet start web"), "{}", stopped.stderr);
    assert!(stopped.ok().contains("stopping"));
    assert_eq!(state(), ec2::shapes::instances::InstanceStateName::Stopping);
    assert!(user.run(&["start", "web"]).ok().contains("pending"));
    assert_eq!(state(), Pending);
    user.run(&["reboot", ONE]).ok();
    assert!(user.run(&["reboot", "other"]).refused().contains("There is no instance named other"));
}

#[test]
fn images_are_removed_by_name() {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.world.lock().images = vec![image("ami-00000002", "tiny")];
    user.run(&["image", "rm", "tiny"]).ok();
    assert!(fake.world.lock().images.is_empty());
    assert!(user.run(&["image", "rm", "tiny"]).refused().contains("There is no image named tiny"));
}

#[test]
fn a_key_that_the_cloud_does_not_know_is_refused_with_a_remedy() {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.write_client(&user.client(), "another secret");
    let refused = user.run(&["instances"]).refused();
    assert!(refused.contains("(AuthFailure)\nhint: the key is another cloud's"), "{refused}");
}

#[test]
fn whole_variables_win_over_the_file_and_keys_alone_do_not() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let with = |variables: &[(&str, &str)]| {
        Ran::of(user.command(&["status"]).envs(variables.iter().copied()).output().unwrap())
    };
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAREAL"), ("AWS_SECRET_ACCESS_KEY", "real")];
    with(&keys).ok();
    let endpoint = format!("http://{}", fake.address);
    let whole = [keys[0], keys[1], ("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_REGION", "eu-test-1")];
    let ran = with(&whole);
    assert!(ran.refused().contains("The security token included in the request is invalid."));
}

#[test]
fn nobody_at_the_endpoint_is_told_from_somebody_else() {
    let fake = Fake::start();
    let user = User::of(&fake);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // One that speaks HTTP and is no cloud, then one that hangs up, then one that speaks no HTTP.
    let stranger = std::thread::spawn(move || {
        for answer in
            ["HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n", "", "SSH-2.0-OpenSSH_9.2\r\n"]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ask = || user.run(&["--endpoint", &endpoint, "ls"]).refused();
    let refused = ask();
    assert!(refused.contains("is not cumuletd: it says HTTP 501 Not Implemented\nhint: "), "{refused}");
    for _ in 0..2 {
        let refused = ask();
        assert!(refused.contains(&format!("The connection to {endpoint} broke off: ")), "{refused}");
    }
    stranger.join().unwrap();

    // A port that is ours and on which we do not listen.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    let refused = user.run(&["--endpoint", &endpoint, "ls"]).refused();
    assert!(refused.contains(&format!("Could not connect to {endpoint}: Connection refused")), "{refused}");
    assert!(refused.contains("hint: is the cloud running?"), "{refused}");
}

#[test]
fn https_is_refused_with_a_sentence() {
    let fake = Fake::start();
    let refused = User::of(&fake).run(&["--endpoint", "https://127.0.0.1:8773", "ls"]).refused();
    assert!(refused.contains("is for https, which cumulet does not speak yet\nhint: "), "{refused}");
}

#[test]
fn what_is_not_understood_exits_with_2() {
    let fake = Fake::start();
    let user = User::of(&fake);
    for arguments in
        [&["lunch"][..], &["ssh"], &["forward", "web", "80"], &["run", "tiny", "--allow", "http"], &[]]
    {
        assert_eq!(user.run(arguments).status, Some(2), "{arguments:?}");
    }
    let help = user.run(&["--help"]).ok();
    assert!(help.contains("A first hour:") && !help.contains("connect "), "{help}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.instance(ONE, "web", Running);
    let mut child = user
        .command(&["ls"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn completions_know_the_commands() {
    let fake = Fake::start();
    let script = User::of(&fake).run(&["completions", "bash"]).ok();
    assert!(script.contains("forward") && script.contains("cumulet"));
}
