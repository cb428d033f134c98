"""Volumes of one's own: made, attached to instances that run or are stopped, changed, taken back, deleted."""

import json

import pytest

from conftest import one, refused, until

ZONE = "us-east-1a"
NOBODY = "0123456789abcdef0"


@pytest.fixture
def make(ec2):
    """make(**CreateVolume parameters): the id of a volume that is available."""

    def make(size: int = 1, **parameters) -> str:
        wish = {"AvailabilityZone": ZONE, "Size": size} | parameters
        volume = ec2.create_volume(**wish)["VolumeId"]
        until(ec2, "volume_available", VolumeIds=[volume])
        return volume

    return make


@pytest.fixture
def instance(launch):
    """The id of an instance that runs in the volumes' zone."""
    (instance,) = launch(Placement={"AvailabilityZone": ZONE})
    return instance


def shown(ec2, volume: str) -> dict:
    return ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]


def gone(ec2, volume: str):
    ec2.delete_volume(VolumeId=volume)
    until(ec2, "volume_deleted", VolumeIds=[volume])


def attached(ec2, volume: str) -> bool:
    until(ec2, "volume_in_use", VolumeIds=[volume], Filters=[{"Name": "attachment.status", "Values": ["attached"]}])
    return shown(ec2, volume)["Attachments"][0]["State"] == "attached"


def test_a_volume_is_made_as_it_was_asked_for(ec2):
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "data"}]}]
    made = ec2.create_volume(AvailabilityZone=ZONE, Size=10, VolumeType="gp3", TagSpecifications=tags)
    assert (made["State"], made["Size"], made["VolumeType"], made["Iops"]) == ("creating", 10, "gp3", 3000)
    assert (made["AvailabilityZone"], made["Encrypted"], made["SnapshotId"]) == (ZONE, False, "")
    assert made["Tags"] == [{"Key": "Name", "Value": "data"}]
    until(ec2, "volume_available", VolumeIds=[made["VolumeId"]])
    assert shown(ec2, made["VolumeId"])["Attachments"] == []
    gone(ec2, made["VolumeId"])
    by_id = ec2.create_volume(AvailabilityZoneId="use1-az2", Size=1)
    assert (by_id["AvailabilityZone"], by_id["VolumeType"]) == ("us-east-1b", "gp2")
    until(ec2, "volume_available", VolumeIds=[by_id["VolumeId"]])
    gone(ec2, by_id["VolumeId"])


def test_a_client_token_makes_one_volume(ec2):
    wish = {"AvailabilityZone": ZONE, "Size": 1, "ClientToken": "once"}
    first = ec2.create_volume(**wish)["VolumeId"]
    assert ec2.create_volume(**wish)["VolumeId"] == first
    with refused("IdempotentParameterMismatch", "once"):
        ec2.create_volume(**(wish | {"Size": 2}))
    until(ec2, "volume_available", VolumeIds=[first])
    gone(ec2, first)


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        ("MissingParameter", {"Size": 1}),
        ("MissingParameter", {"AvailabilityZone": ZONE}),
        ("InvalidZone.NotFound", {"AvailabilityZone": "us-east-1x", "Size": 1}),
        ("InvalidParameterCombination", {"AvailabilityZone": ZONE, "AvailabilityZoneId": "use1-az1", "Size": 1}),
        ("InvalidParameterValue", {"AvailabilityZone": ZONE, "Size": 0}),
        ("InvalidParameterValue", {"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "st1"}),
        ("InvalidParameterValue", {"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp4"}),
        ("InvalidParameterCombination", {"AvailabilityZone": ZONE, "Size": 1, "Iops": 3000}),
        ("InvalidParameterValue", {"AvailabilityZone": ZONE, "Size": 7, "VolumeType": "gp3", "Iops": 4000}),
        ("InvalidSnapshot.NotFound", {"AvailabilityZone": ZONE, "SnapshotId": f"snap-{NOBODY}"}),
        ("UnsupportedOperation", {"AvailabilityZone": ZONE, "Size": 1, "Encrypted": True}),
        ("DryRunOperation", {"AvailabilityZone": ZONE, "Size": 1, "DryRun": True}),
    ],
)
def test_volumes_that_are_not_made(ec2, code, parameters):
    before = len(ec2.describe_volumes()["Volumes"])
    with refused(code, status=412 if code == "DryRunOperation" else 400):
        ec2.create_volume(**parameters)
    assert len(ec2.describe_volumes()["Volumes"]) == before


def test_a_volume_goes_from_one_running_instance_to_another(ec2, make, launch):
    one_of_them, other = launch(MinCount=2, MaxCount=2, Placement={"AvailabilityZone": ZONE})
    volume = make()
    answer = ec2.attach_volume(VolumeId=volume, InstanceId=one_of_them, Device="/dev/sdf")
    assert (answer["State"], answer["Device"], answer["InstanceId"]) == ("attaching", "/dev/sdf", one_of_them)
    assert answer["DeleteOnTermination"] is False
    assert attached(ec2, volume)
    devices = {row["DeviceName"]: row["Ebs"] for row in one(ec2, one_of_them)["BlockDeviceMappings"]}
    assert (devices["/dev/sdf"]["VolumeId"], devices["/dev/sdf"]["Status"]) == (volume, "attached")
    with refused("VolumeInUse", volume):
        ec2.attach_volume(VolumeId=volume, InstanceId=other, Device="/dev/sdf")
    with refused("VolumeInUse", one_of_them):
        ec2.delete_volume(VolumeId=volume)
    with refused("InvalidAttachment.NotFound", other):
        ec2.detach_volume(VolumeId=volume, InstanceId=other)
    with refused("InvalidAttachment.NotFound", "/dev/sdg"):
        ec2.detach_volume(VolumeId=volume, Device="/dev/sdg")
    answer = ec2.detach_volume(VolumeId=volume, InstanceId=one_of_them, Device="/dev/sdf")
    assert answer["State"] == "detaching"
    until(ec2, "volume_available", VolumeIds=[volume])
    assert len(one(ec2, one_of_them)["BlockDeviceMappings"]) == 1
    with refused("IncorrectState", "available"):
        ec2.detach_volume(VolumeId=volume)

    ec2.attach_volume(VolumeId=volume, InstanceId=other, Device="/dev/sdf")
    assert attached(ec2, volume)
    ec2.terminate_instances(InstanceIds=[other])
    until(ec2, "instance_terminated", InstanceIds=[other])
    assert shown(ec2, volume)["State"] == "available", "who was attached by hand outlives its instance"
    gone(ec2, volume)
    with refused("InvalidVolume.NotFound", volume):
        ec2.delete_volume(VolumeId=volume)


def test_a_forced_detach(ec2, make, instance):
    volume = make()
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    assert attached(ec2, volume)
    ec2.detach_volume(VolumeId=volume, Force=True)
    until(ec2, "volume_available", VolumeIds=[volume])


def test_what_cannot_be_attached(ec2, make, instance):
    volume = make()
    for parameters, code, word in [
        ({"Device": "/dev/xvda"}, "InvalidParameterValue", "already in use"),
        ({"Device": "/dev/vdb"}, "InvalidParameterValue", "not a valid EBS device name"),
        ({"Device": "/dev/sdf", "InstanceId": f"i-{NOBODY}"}, "InvalidInstanceID.NotFound", NOBODY),
        ({"Device": "/dev/sdf", "VolumeId": f"vol-{NOBODY}"}, "InvalidVolume.NotFound", NOBODY),
        ({"Device": "/dev/sdf", "VolumeId": make(AvailabilityZone="us-east-1b")}, "InvalidVolume.ZoneMismatch", "zone"),
        ({"Device": "/dev/sdf", "DryRun": True}, "DryRunOperation", "DryRun"),
    ]:
        with refused(code, word, status=412 if code == "DryRunOperation" else 400):
            ec2.attach_volume(**({"VolumeId": volume, "InstanceId": instance} | parameters))
    ec2.terminate_instances(InstanceIds=[instance])
    with refused("IncorrectState", instance):
        ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    assert shown(ec2, volume)["State"] == "available"


def test_an_instance_has_eight_places(ec2, make, launch, instance):
    volumes = [make() for _ in range(9)]
    for number, volume in enumerate(volumes[:8]):
        ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=f"/dev/sd{'fghijklm'[number]}")
    for volume in volumes[:8]:
        assert attached(ec2, volume)
    with refused("AttachmentLimitExceeded", instance):
        ec2.attach_volume(VolumeId=volumes[8], InstanceId=instance, Device="/dev/sdn")
    mappings = [{"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "fghijklmn"]
    with refused("AttachmentLimitExceeded"):
        launch(BlockDeviceMappings=mappings)
    launch(BlockDeviceMappings=mappings[:8])


def test_a_root_volume_leaves_a_stopped_instance_only(ec2, instance):
    root = one(ec2, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    with refused("OperationNotPermitted", root):
        ec2.detach_volume(VolumeId=root, Force=True)
    ec2.stop_instances(InstanceIds=[instance])
    until(ec2, "instance_stopped", InstanceIds=[instance])
    ec2.detach_volume(VolumeId=root)
    until(ec2, "volume_available", VolumeIds=[root])
    with refused("InvalidParameterValue", "/dev/xvda"):
        ec2.start_instances(InstanceIds=[instance])
    ec2.attach_volume(VolumeId=root, InstanceId=instance, Device="/dev/xvda")
    ec2.start_instances(InstanceIds=[instance])
    until(ec2, "instance_running", InstanceIds=[instance])


def test_a_stopped_instance_finds_what_was_attached_meanwhile(ec2, make, instance):
    ec2.stop_instances(InstanceIds=[instance])
    until(ec2, "instance_stopped", InstanceIds=[instance])
    stays, goes = make(), make()
    ec2.attach_volume(VolumeId=stays, InstanceId=instance, Device="/dev/sdf")
    ec2.attach_volume(VolumeId=goes, InstanceId=instance, Device="/dev/sdg")
    assert attached(ec2, stays)
    ec2.detach_volume(VolumeId=goes)
    until(ec2, "volume_available", VolumeIds=[goes])
    ec2.start_instances(InstanceIds=[instance])
    until(ec2, "instance_running", InstanceIds=[instance])
    assert attached(ec2, stays)


def test_a_volume_grows_where_it_is(ec2, make, instance):
    volume = make(size=5)
    with refused("InvalidVolumeModification.NotFound", volume):
        ec2.describe_volumes_modifications(VolumeIds=[volume])
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    assert attached(ec2, volume)
    change = ec2.modify_volume(VolumeId=volume, Size=9, VolumeType="gp3")["VolumeModification"]
    assert (change["OriginalSize"], change["TargetSize"]) == (5, 9)
    assert (change["OriginalVolumeType"], change["TargetVolumeType"]) == ("gp2", "gp3")
    completed(ec2, volume)
    now = shown(ec2, volume)
    assert (now["Size"], now["VolumeType"], now["State"]) == (9, "gp3", "in-use")
    with refused("InvalidParameterValue", "smaller"):
        ec2.modify_volume(VolumeId=volume, Size=8)
    change = ec2.modify_volume(VolumeId=volume, Iops=4000, Throughput=500)["VolumeModification"]
    assert (change["OriginalIops"], change["OriginalThroughput"]) == (3000, 125)
    completed(ec2, volume)
    # What is not said again stays.
    change = ec2.modify_volume(VolumeId=volume, Size=10)["VolumeModification"]
    assert (change["TargetSize"], change["TargetIops"], change["TargetThroughput"]) == (10, 4000, 500)
    completed(ec2, volume)
    now = shown(ec2, volume)
    assert (now["Iops"], now["Throughput"]) == (4000, 500)


def test_a_volume_that_nobody_has_grows_at_once(ec2, make):
    volume = make()
    ec2.modify_volume(VolumeId=volume, Size=4)
    change = completed(ec2, volume)
    assert (change["Progress"], change["TargetSize"]) == (100, 4) and change["EndTime"] >= change["StartTime"]
    filters = [{"Name": "target-size", "Values": ["4"]}]
    found = ec2.describe_volumes_modifications(Filters=filters)["VolumesModifications"]
    assert [row["VolumeId"] for row in found] == [volume]


def completed(ec2, volume: str) -> dict:
    """The volume's last change, which must come to its end."""
    for _ in range(100):
        (change,) = ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
        if change["ModificationState"] == "completed":
            return change
    raise AssertionError(change)


def test_health_and_attributes(ec2, make):
    volume = make()
    (health,) = ec2.describe_volume_status(VolumeIds=[volume])["VolumeStatuses"]
    assert health["VolumeStatus"]["Status"] == "ok" and health["AvailabilityZone"] == ZONE
    assert {"Name": "io-enabled", "Status": "passed"} in health["VolumeStatus"]["Details"]
    attribute = ec2.describe_volume_attribute(VolumeId=volume, Attribute="autoEnableIO")
    assert attribute["AutoEnableIO"] == {"Value": False}
    ec2.modify_volume_attribute(VolumeId=volume, AutoEnableIO={"Value": False})
    with refused("UnsupportedOperation"):
        ec2.modify_volume_attribute(VolumeId=volume, AutoEnableIO={"Value": True})


def test_the_aws_cli_and_its_waiters(daemon, ec2, instance):
    made = json.loads(daemon.aws("ec2", "create-volume", "--availability-zone", ZONE, "--size", "1").stdout)
    volume = made["VolumeId"]
    # It asks every 15 seconds, so the first question should find what it waits for.
    until(ec2, "volume_available", VolumeIds=[volume])
    daemon.aws("ec2", "wait", "volume-available", "--volume-ids", volume)
    daemon.aws("ec2", "attach-volume", "--volume-id", volume, "--instance-id", instance, "--device", "/dev/sdf")
    daemon.aws("ec2", "wait", "volume-in-use", "--volume-ids", volume)
    daemon.aws("ec2", "detach-volume", "--volume-id", volume)
    until(ec2, "volume_available", VolumeIds=[volume])
    daemon.aws("ec2", "delete-volume", "--volume-id", volume)
    until(ec2, "volume_deleted", VolumeIds=[volume])
    daemon.aws("ec2", "wait", "volume-deleted", "--volume-ids", volume)
