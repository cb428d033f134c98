"""Volumes as guests see them: their serials, their sizes, and what is on them after a stop."""

GIB = 1 << 30


def test_a_second_volume_has_its_id_as_serial_and_keeps_its_data(launch, ec2):
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 3}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 2, "DeleteOnTermination": False}},
    ]
    instance = launch(BlockDeviceMappings=disks)
    volumes = {one["DeviceName"]: one["Ebs"]["VolumeId"] for one in instance.describe()["BlockDeviceMappings"]}
    serials = instance.ssh("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial").split()
    assert serials == [volumes[name].replace("-", "") for name in ("/dev/xvda", "/dev/sdf")]
    sectors = instance.ssh("cat /sys/block/vda/size /sys/block/vdb/size").split()
    assert [int(count) * 512 for count in sectors] == [3 * GIB, 2 * GIB]

    instance.ssh("mke2fs /dev/vdb > /dev/null && mount -t ext4 /dev/vdb /mnt && echo data > /mnt/file && umount /mnt")
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped")
    ec2.start_instances(InstanceIds=[instance.id])
    assert instance.ssh("mount -t ext4 /dev/vdb /mnt && cat /mnt/file").strip() == "data"

    ec2.terminate_instances(InstanceIds=[instance.id])
    instance.wait_for_state("terminated")
    [left] = ec2.describe_volumes(VolumeIds=[volumes["/dev/sdf"]])["Volumes"]
    assert left["State"] == "available"


def test_two_instances_of_one_image_do_not_see_each_others_writes(launch):
    one, other = launch(), launch()
    one.ssh("echo mine > /home/admin/note && sync")
    assert other.ssh("ls /home/admin").strip() == ""
