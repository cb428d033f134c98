"""What happens when nothing more fits."""

from conftest import find, refused, until

SETTINGS = """
public_pool = "198.18.0.0/29"
[limits]
vcpus_per_processor = 1
volume_gib = 100
"""
"""64 processors of a simulated host, so 32 instances of two vCPUs; public addresses for five or six."""


def test_vcpus(ec2, launch):
    inside = {"NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": False}]}
    ids = launch(MinCount=1, MaxCount=1000, **inside)
    assert len(ids) == 32, "as many as fit"
    with refused("InsufficientInstanceCapacity", "t3.nano", status=500):
        launch(**inside)
    with refused("InsufficientInstanceCapacity", status=500):
        launch(DryRun=True, **inside)
    ec2.stop_instances(InstanceIds=ids[:1])
    until(ec2, "instance_stopped", InstanceIds=ids[:1])
    (other,) = launch(**inside)
    with refused("InsufficientInstanceCapacity", status=500):
        ec2.start_instances(InstanceIds=ids[:1])
    ec2.terminate_instances(InstanceIds=[other])
    until(ec2, "instance_terminated", InstanceIds=[other])
    ec2.start_instances(InstanceIds=ids[:1])
    ec2.terminate_instances(InstanceIds=ids)
    until(ec2, "instance_terminated", InstanceIds=ids)


def test_public_addresses(ec2, launch):
    before = find(ec2)
    with refused("InsufficientAddressCapacity", "198.18.0.0/29", status=500):
        launch(MinCount=9, MaxCount=9)
    assert find(ec2) == before, "all or nothing"
    launch(MinCount=4, MaxCount=4)


def test_volumes(ec2, launch):
    with refused("VolumeLimitExceeded", "100 GiB"):
        launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 101}}])
