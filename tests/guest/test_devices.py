"""Devices as guests see them, and what the host gets back from a guest that does not need it any more."""

from cloud import STATE, instance_type

MIB = 1 << 20


def test_what_a_guest_no_longer_needs_the_host_has_again(launch, lab):
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
    ]
    instance = launch(InstanceType=instance_type("nano", several=True), BlockDeviceMappings=disks)
    [volume] = [one["Ebs"]["VolumeId"] for one in instance.describe()["BlockDeviceMappings"] if one["DeviceName"] == "/dev/sdf"]
    # A queue of the disk for each vCPU.
    queues, processors = instance.ssh("ls /sys/block/vdb/mq | wc -w; nproc").split()
    assert queues == processors and int(processors) > 1

    def on_disk() -> int:
        return int(lab.run("stat", "-c", "%b", f"{STATE}/volumes/{volume}/data")) * 512

    # A file, deleted and trimmed, takes no room.
    instance.ssh("mke2fs /dev/vdb > /dev/null && mount -t ext4 /dev/vdb /mnt && dd if=/dev/zero of=/mnt/file bs=1M count=64 && sync")
    assert on_disk() > 64 * MIB
    instance.ssh("rm /mnt/file && sync && fstrim /mnt && umount /mnt")
    assert on_disk() < 32 * MIB

    def in_memory() -> int:
        pid = lab.run("cat", f"/sys/fs/cgroup/cumulet/{instance.id}/cgroup.procs").split()[0]
        [line] = [line for line in lab.run("cat", f"/proc/{pid}/status").splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10

    # What it cached and dropped is in nobody's memory.
    instance.ssh("dd if=/dev/vdb of=/dev/null bs=1M count=200")
    full = in_memory()
    assert full > 200 * MIB
    instance.ssh("echo 3 > /proc/sys/vm/drop_caches")
    instance.until(lambda: in_memory() < full - 120 * MIB, "its memory did not come back")
