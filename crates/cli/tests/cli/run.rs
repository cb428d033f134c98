//! `cumulet run`: the key, the group, the launch.

use std::io::Write;
use std::process::Stdio;

use ec2::shapes::images::Image;
use ec2::shapes::security_groups::SecurityGroup;

use crate::fake::Fake;
use crate::user::{Ran, User};

fn cloud_with_an_image() -> (Fake, User) {
    let fake = Fake::start();
    let user = User::of(&fake);
    fake.world.lock().images =
        vec![Image { image_id: "ami-00000001".into(), name: "tiny".into(), ..Default::default() }];
    (fake, user)
}

#[test]
fn a_first_launch_makes_key_and_group_and_a_second_uses_them() {
    let (fake, user) = cloud_with_an_image();
    let ran = user.run(&["run", "tiny", "--name", "web", "--allow", "80,22"]);
    let next = "next: cumulet ssh web\nnext: cumulet forward web 8080:80\n";
    assert!(ran.stderr.ends_with(next), "{}", ran.stderr);
    assert_eq!(ran.ok(), "i-00000000000000001\n");
    user.run(&["run", "tiny", "--allow", "22,80", "--type", "t3.nano"]).ok();

    let world = fake.world.lock();
    let [first, second] = &world.launches[..] else { panic!("two launches, not {}", world.launches.len()) };
    assert_eq!(first.image_id.as_deref(), Some("ami-00000001"));
    assert_eq!((first.min_count, first.max_count), (1, 1));
    assert_eq!(first.tag_specification[0].tag[0].value, "web");
    assert_eq!((first.instance_type.as_deref(), second.instance_type.as_deref()), (None, Some("t3.nano")));
    assert_eq!(first.key_name, second.key_name);
    assert_eq!(first.security_group_id, second.security_group_id);

    let public =
        std::fs::read_to_string(user.home.path().join(".local/share/cumulet/ssh/id_ed25519.pub")).unwrap();
    assert_eq!(world.keys[first.key_name.as_ref().unwrap()], public.trim());
    let [group] = &world.groups[..] else { panic!("one group") };
    assert_eq!(
        (&group.group_id, group.group_name.as_str()),
        (&first.security_group_id[0], "cumulet-allow:22,80")
    );
    let opened: Vec<_> = group.ip_permissions.iter().map(|rule| (rule.from_port, rule.to_port)).collect();
    assert_eq!(opened, [(Some(80), Some(80)), (Some(22), Some(22))]);
    assert!(group.ip_permissions.iter().all(|rule| rule.ip_ranges[0].cidr_ip == "0.0.0.0/0"));
}

#[test]
fn a_group_that_was_left_half_made_is_finished() {
    let (fake, user) = cloud_with_an_image();
    let (group_id, group_name) = ("sg-00000007".to_owned(), "cumulet-allow:22".to_owned());
    fake.world.lock().groups.push(SecurityGroup { group_id, group_name, ..Default::default() });
    user.run(&["run", "tiny"]).ok();
    let world = fake.world.lock();
    assert_eq!(world.launches[0].security_group_id, ["sg-00000007"]);
    assert_eq!(world.groups[0].ip_permissions.len(), 1);
}

#[test]
fn keys_and_groups_of_the_cloud_are_taken_as_they_are() {
    let (fake, user) = cloud_with_an_image();
    let arguments = ["run", "ami-00000001", "--key", "mine", "--group", "sg-00000003", "--group", "default"];
    user.run(&arguments).ok();
    let world = fake.world.lock();
    assert_eq!(world.launches[0].key_name.as_deref(), Some("mine"));
    assert_eq!(world.launches[0].security_group_id, ["sg-00000003"]);
    assert_eq!(world.launches[0].security_group, ["default"]);
    assert!(world.keys.is_empty() && world.groups.is_empty());
}

#[test]
fn it_waits_until_the_instance_runs() {
    let (fake, user) = cloud_with_an_image();
    fake.world.lock().describes_until_running = 2;
    let ran = user.run(&["run", "tiny", "--wait", "--output", "json"]);
    assert!(ran.stderr.contains("Waiting for i-00000000000000001 to run\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("public address 198.18.0.5"), "{}", ran.stderr);
    let instance: serde_json::Value = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!((&instance["state"], &instance["public_ip"]), (&"running".into(), &"198.18.0.5".into()));

    fake.world.lock().describes_until_running = 1000;
    let refused = user.run(&["run", "tiny", "--wait=1"]).refused();
    assert!(refused.contains("i-00000000000000002 did not begin to run within 1 seconds"), "{refused}");
}

#[test]
fn user_data_comes_from_a_file_or_stdin_and_has_a_bound() {
    let (fake, user) = cloud_with_an_image();
    let script = user.home.path().join("setup.sh");
    std::fs::write(&script, "#!/bin/sh\necho hello\n").unwrap();
    user.run(&["run", "tiny", "--user-data", script.to_str().unwrap()]).ok();
    let mut child = user
        .command(&["run", "tiny", "--user-data", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"#cloud-config\n").unwrap();
    Ran::of(child.wait_with_output().unwrap()).ok();
    {
        let world = fake.world.lock();
        let sent: Vec<_> = world.launches.iter().map(|launch| launch.user_data.clone().unwrap().0).collect();
        assert_eq!(sent, [b"#!/bin/sh\necho hello\n".to_vec(), b"#cloud-config\n".to_vec()]);
    }
    std::fs::write(&script, vec![b'#'; 16 * 1024 + 1]).unwrap();
    let refused = user.run(&["run", "tiny", "--user-data", script.to_str().unwrap()]).refused();
    assert!(refused.contains("has more than 16384 bytes"), "{refused}");
}

#[test]
fn an_image_that_is_not_there_costs_nothing() {
    let (fake, user) = cloud_with_an_image();
    let refused = user.run(&["run", "debian"]).refused();
    assert_eq!(refused, "cumulet: There is no image named debian\nhint: see what there is: cumulet images\n");
    let world = fake.world.lock();
    assert!(world.keys.is_empty() && world.groups.is_empty() && world.launches.is_empty());
}
