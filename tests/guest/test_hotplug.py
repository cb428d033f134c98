"""Volumes and network interfaces that come to a running guest and go, by the API, seen from inside."""

import pytest

from cloud import instance_type
from conftest import open_group

GIB = 1 << 30
ZONE = "us-east-1a"

# What udhcpc calls: an address whose packets leave by their own interface, whatever the others' routes are.
LEASE = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/32" dev "$interface"
ip rule add from "$ip" table 100
ip route replace "$router" dev "$interface" table 100
ip route replace default via "$router" dev "$interface" table 100
"""


@pytest.fixture(scope="module")
def pair(launch_for_all):
    """Two instances in the zone of the volumes, both up; the first has several processors, and so queues."""
    kinds = [instance_type("nano", several) for several in [True, False]]
    pair = [launch_for_all(InstanceType=kind, Placement={"AvailabilityZone": ZONE}) for kind in kinds]
    for instance in pair:
        instance.ssh("true")
    return pair


@pytest.fixture
def volume(ec2):
    """A new empty volume of 1 GiB, deleted at the end."""
    volume = ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"]
    wait(ec2, "volume_available", volume)
    yield volume
    wait(ec2, "volume_available", volume)
    ec2.delete_volume(VolumeId=volume)
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})


def wait(ec2, waiter: str, volume: str):
    ec2.get_waiter(waiter).wait(VolumeIds=[volume], WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def attach(ec2, volume: str, instance) -> str:
    """Attaches a volume; the guest's name of the disk with its serial."""
    ec2.attach_volume(VolumeId=volume, InstanceId=instance.id, Device="/dev/sdf")
    instance.until(lambda: disk(instance, volume), f"{volume} did not come")
    instance.until(lambda: attachment(ec2, volume) == "attached", f"{volume} is not said to be attached")
    return disk(instance, volume)


def attachment(ec2, volume: str) -> str:
    return ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"][0]["State"]


def disk(instance, volume: str) -> str:
    """The device with this volume's id as serial; nothing where there is none."""
    serial = volume.replace("-", "")
    found = instance.ssh(f"grep -ls {serial} /sys/block/*/serial || true").strip()
    return "/dev/" + found.split("/")[3] if found else ""


def test_a_volume_goes_from_guest_to_guest_and_grows(pair, ec2, volume):
    one, other = pair
    name = attach(ec2, volume, one)
    one.ssh(f"mke2fs {name} > /dev/null && mount -t ext4 {name} /mnt && echo carried > /mnt/file && umount /mnt")
    ec2.detach_volume(VolumeId=volume)
    wait(ec2, "volume_available", volume)
    assert disk(one, volume) == ""

    name = attach(ec2, volume, other)
    assert other.ssh(f"mount -t ext4 {name} /mnt && cat /mnt/file").strip() == "carried"
    ec2.modify_volume(VolumeId=volume, Size=2)
    size = f"cat /sys/block/{name.removeprefix('/dev/')}/size"
    other.until(lambda: int(other.ssh(size)) * 512 == 2 * GIB, "the disk did not grow")
    assert other.ssh("echo more > /mnt/more && sync && cat /mnt/file").strip() == "carried"
    changes = lambda: ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
    other.until(lambda: changes()[0]["ModificationState"] == "completed", "the change is not said to be through")

    # Mounted as it is: the guest is not asked, and lives.
    ec2.detach_volume(VolumeId=volume, Force=True)
    wait(ec2, "volume_available", volume)
    other.until(lambda: not disk(other, volume), "the disk is still there")
    other.ssh("umount -l /mnt")


def test_a_volume_is_as_fast_as_is_said_and_becomes_faster(pair, ec2, volume):
    one, _ = pair
    # 10 MiB a second for a cold disk of this size. Large requests: each takes this slow lab milliseconds.
    ec2.modify_volume(VolumeId=volume, Size=125, VolumeType="sc1")
    name = attach(ec2, volume, one)
    one.ssh(f"echo 1024 > /sys/block/{name.removeprefix('/dev/')}/queue/read_ahead_kb")

    def seconds(skip: int) -> float:
        """How long the guest reads 60 MiB."""
        now, read = "cut -d ' ' -f 1 /proc/uptime", f"dd if={name} of=/dev/null bs=1M count=60 skip={skip} 2> /dev/null"
        begin, end = one.ssh(f"{now}; {read}; {now}").split()
        return float(end) - float(begin)

    slow = seconds(1000)
    assert slow > 60 / 10, f"60 MiB took {slow} s"
    ec2.modify_volume(VolumeId=volume, VolumeType="gp3")
    changes = lambda: ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
    one.until(lambda: changes()[0]["ModificationState"] == "completed", "the change is not said to be through")
    fast = seconds(2000)
    assert fast < slow * 0.7, f"60 MiB took {fast} s, before they took {slow} s"
    ec2.detach_volume(VolumeId=volume)
    wait(ec2, "volume_available", volume)


def test_a_guest_takes_as_many_volumes_as_there_are_places(pair, ec2):
    one, _ = pair
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = one.ssh(boot)
    volumes = [ec2.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"] for _ in range(8)]
    for letter, volume in zip("fghijklm", volumes, strict=True):
        wait(ec2, "volume_available", volume)
        ec2.attach_volume(VolumeId=volume, InstanceId=one.id, Device=f"/dev/sd{letter}")
    serials = {volume.replace("-", "") for volume in volumes}
    seen = lambda: set(one.ssh("cat /sys/block/vd*/serial | sed 's/vol/\\nvol/g'").split())
    one.until(lambda: serials <= seen(), "not all of them came")
    for volume in volumes:
        ec2.detach_volume(VolumeId=volume)
    for volume in volumes:
        wait(ec2, "volume_available", volume)
        ec2.delete_volume(VolumeId=volume)
    assert not serials & seen()
    assert one.ssh(boot) == before, "the machine was lost on the way"


def test_a_second_interface_comes_up_answers_and_goes(pair, ec2):
    one, other = pair
    group = open_group(ec2, "second-card", 22)
    anybody = [{"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=anybody)
    subnet = one.describe()["SubnetId"]
    card = ec2.create_network_interface(SubnetId=subnet, Groups=[group])["NetworkInterface"]
    id, address, mac = card["NetworkInterfaceId"], card["PrivateIpAddress"], card["MacAddress"]
    request = {"NetworkInterfaceId": id, "InstanceId": one.id, "DeviceIndex": 1}
    attachment = ec2.attach_network_interface(**request)["AttachmentId"]
    one.until(lambda: mac in one.ssh("cat /sys/class/net/*/address"), "the interface did not come")
    assert f"{mac}/" in one.metadata("network/interfaces/macs/")
    assert one.metadata(f"network/interfaces/macs/{mac}/local-ipv4s") == address
    name = one.ssh(f"grep -l {mac} /sys/class/net/*/address").split("/")[4]
    one.ssh(f"cat > /tmp/lease <<'END'\n{LEASE}END\nchmod +x /tmp/lease && ip link set {name} up && udhcpc -i {name} -n -q -s /tmp/lease")
    assert address in one.ssh(f"ip -4 addr show dev {name}")
    assert "1 packets received" in other.ssh(f"ping -c 1 -W 5 {address}")
    # Only its own address may leave by it.
    stranger = other.private_address()
    one.ssh(f"ip addr add {stranger}/32 dev {name} && ip rule add from {stranger} table 100")
    router = one.ssh("ip route show table 100 | awk '/default/ { print $3 }'").strip()
    assert "100% packet loss" in one.ssh(f"ping -c 2 -W 1 -I {stranger} {router} || true")

    ec2.detach_network_interface(AttachmentId=attachment)
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[id], WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    assert mac not in one.ssh("cat /sys/class/net/*/address")
    assert "100% packet loss" in other.ssh(f"ping -c 2 -W 1 {address} || true")
    ec2.delete_network_interface(NetworkInterfaceId=id)
    one.ssh(f"ip rule del from {stranger} table 100; ip rule del from {address} table 100")
