"""Hibernation: a guest goes on where it was, with all that it had, and once."""

from cloud import STATE, instance_type

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# Counts for ever, in memory.
COUNTING = "n=0; while sleep 0.2; do n=$((n + 1)); echo $n > /run/count; done"


def test_a_hibernated_guest_goes_on_where_it_was(launch, ec2, lab):
    disks = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    kind = instance_type("nano", several=True)
    instance = launch(InstanceType=kind, HibernationOptions={"Configured": True}, BlockDeviceMappings=disks)
    instance.ssh("mke2fs /dev/vdb > /dev/null && mount -t ext4 /dev/vdb /mnt && echo kept > /mnt/note && echo here > /run/note")
    instance.ssh(f"({COUNTING}) > /dev/null 2>&1 < /dev/null &")

    def count() -> int:
        # Not there yet, or just being written: nothing.
        return int(instance.ssh("cat /run/count 2> /dev/null || true") or 0)

    instance.until(lambda: count() > 3, "it does not count")
    boot, private = instance.ssh(BOOT_ID), instance.private_address()
    ec2.stop_instances(InstanceIds=[instance.id], Hibernate=True)
    instance.wait_for_state("stopped")
    assert instance.describe()["StateReason"]["Code"] == "Client.UserInitiatedHibernate"
    # As large as its memory, and as much of the disk as there is something in it.
    length, blocks = lab.run("stat", "-c", "%s %b", f"{STATE}/memories/{instance.id}/memory").split()
    assert int(length) == 512 << 20 and 16 << 20 < int(blocks) * 512 < 256 << 20
    assert lab.shell("cat /sys/fs/cgroup/cumulet/*/cgroup.procs | wc -l; ls /run/cumulet/machines").split() == ["1"]

    ec2.start_instances(InstanceIds=[instance.id])
    instance.wait_for_state("running")
    instance.until(lambda: count() > 3, "it began anew")
    before = count()
    assert instance.ssh(BOOT_ID) == boot and instance.private_address() == private
    assert instance.ssh("cat /run/note /mnt/note").split() == ["here", "kept"]
    instance.until(lambda: count() > before, "it does not go on counting")
    # Its clock is right, its disks and network work, its processors all do.
    here, there = int(lab.run("date", "+%s")), int(instance.ssh("date +%s"))
    assert abs(here - there) < 30, f"its clock says {there}, and it is {here}"
    instance.ssh("dd if=/dev/zero of=/mnt/more bs=1M count=8 && sync && umount /mnt")
    assert instance.ssh("taskset 2 echo second; grep -c ^processor /proc/cpuinfo").split() == ["second", "2"]
    assert lab.shell(f"ls {STATE}/memories").split() == []

    # And it is stopped and started like any other.
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped")
    ec2.start_instances(InstanceIds=[instance.id])
    instance.wait_for_state("running")
    assert instance.ssh(BOOT_ID) not in ("", boot)
    # What it had written before, flushed or not, is on its disks.
    assert "EXT4-fs error" not in instance.console()
