"""A stock Debian, through cloud-init unmodified: what a user of EC2 expects of its first boot, in one boot."""

import json
import re

import pytest

from cloud import instance_type

USER_DATA = """#cloud-config
write_files:
- path: /etc/motd.d/told
  content: told by user-data
runcmd:
- [sh, -c, "echo runcmd ran as $(id -un) > /var/log/told"]
"""

# The last that cloud-init says.
FINISHED = re.compile(r"Cloud-init v\. .* finished at ")
GIB = 1 << 30


def take_and_give_back(instance, ec2):
    """A volume and a network interface come to a stock system while it runs, as udev and networkd see them, and go."""
    known = instance.describe()
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = instance.ssh(boot)
    volume = ec2.create_volume(AvailabilityZone=known["Placement"]["AvailabilityZone"], Size=2)["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    ec2.attach_volume(VolumeId=volume, InstanceId=instance.id, Device="/dev/sdg")
    link = f"/dev/disk/by-id/virtio-{volume.replace('-', '')}"
    instance.until(lambda: "there" in instance.ssh(f"test -b {link} && echo there || true"), f"{link} did not come")
    wrote = instance.ssh(f"sudo mkfs.ext4 -q {link} && sudo mount {link} /mnt && echo kept | sudo tee /mnt/file && sudo umount /mnt")
    assert wrote == "kept\n"
    ec2.detach_volume(VolumeId=volume)
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 2, "MaxAttempts": 90})
    assert instance.ssh(f"test -e {link} || echo gone") == "gone\n"
    ec2.delete_volume(VolumeId=volume)

    card = ec2.create_network_interface(SubnetId=known["SubnetId"])["NetworkInterface"]
    request = {"NetworkInterfaceId": card["NetworkInterfaceId"], "InstanceId": instance.id, "DeviceIndex": 1}
    # Its routes come after those of the primary interface, by which this session goes on.
    network = f"[Match]\nMACAddress={card['MacAddress']}\n[Network]\nDHCP=ipv4\n[DHCPv4]\nRouteMetric=2000\n"
    instance.ssh(f"printf '{network}' | sudo tee /etc/systemd/network/20-second.network && sudo networkctl reload")
    attachment = ec2.attach_network_interface(**request)["AttachmentId"]
    seen = lambda: instance.ssh("ip -br -4 address show")
    instance.until(lambda: card["PrivateIpAddress"] in seen(), "the second interface has no address")
    ec2.detach_network_interface(AttachmentId=attachment)
    wait = {"Delay": 2, "MaxAttempts": 90}
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[card["NetworkInterfaceId"]], WaiterConfig=wait)
    assert card["PrivateIpAddress"] not in seen()
    assert instance.ssh(boot) == before, "the machine was lost on the way"
    ec2.delete_network_interface(NetworkInterfaceId=card["NetworkInterfaceId"])


@pytest.mark.slow
def test_debian_becomes_an_instance_of_this_cloud(launch, ec2):
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 5}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
    ]
    instance = launch("debian", USER_DATA, InstanceType=instance_type("small", several=True), BlockDeviceMappings=disks)
    instance.until(lambda: FINISHED.search(instance.console()), "cloud-init did not finish", 900)
    # It marks its waiting by dots.
    status = json.loads(instance.ssh("cloud-init status --wait --format=json").lstrip("."))
    assert (status["status"], status["errors"]) == ("done", [])
    assert status["datasource"] == "ec2local" or "Ec2" in status["detail"], status

    known = instance.describe()
    said = instance.ssh(
        "cat /run/cloud-init/.instance-id; hostname; nproc; cat /var/log/told /etc/motd.d/told; "
        "cat /sys/class/dmi/id/sys_vendor; ip -br -4 address show scope global; "
        "lsblk --bytes --nodeps --noheadings --output NAME,SERIAL,SIZE; df --output=size --block-size=1 / | tail -n 1"
    )
    print(said)
    lines = said.splitlines()
    assert lines[0] == instance.id
    assert lines[1] == known["PrivateDnsName"].split(".")[0]
    assert lines[2] == "2"
    assert lines[3] == "runcmd ran as root"
    assert lines[4].startswith("told by user-data")
    assert "Amazon EC2" in said
    assert f"{known['PrivateIpAddress']}/20" in said
    volumes = {one["DeviceName"]: one["Ebs"]["VolumeId"].replace("-", "") for one in known["BlockDeviceMappings"]}
    assert f"vda {volumes['/dev/xvda']} {5 * GIB}" in " ".join(said.split())
    assert f"vdb {volumes['/dev/sdf']} {1 * GIB}" in " ".join(said.split())
    # The root file system has grown to its volume.
    assert int(lines[-1]) > 4.5 * GIB

    take_and_give_back(instance, ec2)

    # systemd obeys the power button, so nothing is cut short.
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped")
    assert "reboot: Power down" in instance.console()
