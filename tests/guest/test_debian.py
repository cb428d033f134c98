"""A stock Debian, through cloud-init unmodified: what a user of EC2 expects of its first boot, in one boot."""

import json

import pytest

from cloud import instance_type

USER_DATA = """#cloud-config
write_files:
- path: /etc/motd.d/told
  content: told by user-data
runcmd:
- [sh, -c, "echo runcmd ran as $(id -un) > /var/log/told"]
"""

GIB = 1 << 30


@pytest.mark.slow
def test_debian_becomes_an_instance_of_this_cloud(launch, ec2):
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 5}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}},
    ]
    instance = launch("debian", USER_DATA, InstanceType=instance_type("small"), BlockDeviceMappings=disks)
    instance.wait_for_console("Cloud-init v. ", seconds=900)
    status = json.loads(instance.ssh("cloud-init status --wait > /dev/null; cloud-init status --format=json", 900))
    assert (status["status"], status["errors"]) == ("done", [])
    assert status["datasource"] == "ec2local" or "Ec2" in status["detail"], status

    known = instance.describe()
    said = instance.ssh(
        "cloud-init query instance_id; hostname; nproc; cat /var/log/told /etc/motd.d/told; "
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

    # systemd obeys the power button, so nothing is cut short.
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped")
    assert "reboot: Power down" in instance.console()
