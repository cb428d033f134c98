"""Real guests through the EC2 API: they boot, are reached, obey, and leave nothing."""


def test_an_instance_boots_knows_itself_and_is_reached(launch):
    instance = launch()
    assert instance.ssh("cat /var/lib/tiny/instance-id").strip() == instance.id


def test_user_data_runs_once_and_is_seen_on_the_console(launch):
    instance = launch(user_data="#!/bin/sh\necho user-data speaks for $(cat /var/lib/tiny/instance-id)")
    instance.wait_for_console(f"user-data speaks for {instance.id}")


def test_a_guests_own_power_off_is_seen(launch):
    instance = launch()
    instance.ssh("sh -c 'sleep 1; poweroff' > /dev/null 2>&1 &")
    instance.wait_for_state("stopped")
    assert "reboot: Power down" in instance.console()


def test_stop_and_start_keep_the_disk(launch, ec2):
    instance = launch()
    instance.ssh("echo kept > /home/admin/note && sync")
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped")
    ec2.start_instances(InstanceIds=[instance.id])
    instance.wait_for_state("running")
    assert instance.ssh("cat /home/admin/note").strip() == "kept"


def test_a_crash_of_the_daemon_leaves_guests_running(launch, cloud):
    instance = launch()
    before = instance.ssh("cat /proc/sys/kernel/random/boot_id")
    cloud.kill_daemon()
    cloud.start_daemon()
    assert instance.state() == "running"
    assert instance.ssh("cat /proc/sys/kernel/random/boot_id") == before


def test_a_terminated_instance_leaves_nothing(launch, ec2, lab):
    instance = launch()
    instance.wait_for_state("running")
    [disk] = instance.describe()["BlockDeviceMappings"]
    ec2.terminate_instances(InstanceIds=[instance.id])
    instance.wait_for_state("terminated")
    # Its console's words are kept for an hour, as EC2 keeps them; the volumes' folder held nothing else.
    left = lab.shell(
        "ip netns list; ls /run/cumulet/machines; ls -d /sys/fs/cgroup/cumulet/i-* 2> /dev/null || true; "
        "ls /var/lib/cumulet/volumes; pgrep -a cumulet-vmm || true"
    )
    volume = disk["Ebs"]["VolumeId"]
    assert instance.id not in left and volume not in left and "cumulet-vmm" not in left, left
