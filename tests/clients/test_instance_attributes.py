"""Changing an instance: its attributes one at a time, its metadata options, its protection; its CPU credits."""

import base64

import pytest

from conftest import one, refused, until

NOBODY = "i-0123456789abcdef0"


@pytest.fixture
def instance(launch):
    (instance,) = launch()
    return instance


@pytest.fixture
def stopped(ec2, instance):
    ec2.stop_instances(InstanceIds=[instance], Force=True)
    until(ec2, "instance_stopped", InstanceIds=[instance])
    return instance


def attribute(ec2, instance: str, name: str):
    """An attribute as it is described, whatever its shape."""
    answer = ec2.describe_instance_attribute(InstanceId=instance, Attribute=name)
    (value,) = [value for key, value in answer.items() if key not in ("InstanceId", "ResponseMetadata")]
    return value.get("Value") if isinstance(value, dict) else value


def test_a_type_is_changed_while_the_instance_is_stopped(ec2, stopped):
    ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": "t3.small"})
    assert attribute(ec2, stopped, "instanceType") == one(ec2, stopped)["InstanceType"] == "t3.small"
    ec2.modify_instance_attribute(InstanceId=stopped, Attribute="instanceType", Value="t3.micro")
    ec2.start_instances(InstanceIds=[stopped])
    until(ec2, "instance_running", InstanceIds=[stopped])
    assert one(ec2, stopped)["InstanceType"] == "t3.micro"
    with refused("IncorrectInstanceState", "stopped"):
        ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": "t3.nano"})


def test_a_wrong_type_is_refused(ec2, stopped):
    with refused("InvalidInstanceAttributeValue", "t9.huge"):
        ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": "t9.huge"})
    with refused("InvalidParameterValue", "architecture"):
        other = "t4g.nano" if one(ec2, stopped)["Architecture"] == "x86_64" else "t3.nano"
        ec2.modify_instance_attribute(InstanceId=stopped, InstanceType={"Value": other})


def test_user_data_is_changed_while_the_instance_is_stopped(ec2, stopped):
    ec2.modify_instance_attribute(InstanceId=stopped, UserData={"Value": b"#!/bin/sh\n"})
    assert base64.b64decode(attribute(ec2, stopped, "userData")) == b"#!/bin/sh\n"
    encoded = base64.b64encode(b"other").decode()
    ec2.modify_instance_attribute(InstanceId=stopped, Attribute="userData", Value=encoded)
    assert attribute(ec2, stopped, "userData") == encoded
    with refused("InvalidParameterValue"):
        ec2.modify_instance_attribute(InstanceId=stopped, Attribute="userData", Value="not base64!")
    with refused("InvalidParameterValue", "16384"):
        ec2.modify_instance_attribute(InstanceId=stopped, UserData={"Value": b"x" * 16385})
    ec2.start_instances(InstanceIds=[stopped])
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=stopped, UserData={"Value": b""})


@pytest.mark.parametrize(
    ("name", "field", "action"),
    [
        ("disableApiTermination", "DisableApiTermination", "terminate_instances"),
        ("disableApiStop", "DisableApiStop", "stop_instances"),
    ],
)
def test_protection_protects(ec2, launch, name, field, action):
    (instance,) = launch(**{field: True})
    assert attribute(ec2, instance, name) is True
    with refused("OperationNotPermitted", name):
        getattr(ec2, action)(InstanceIds=[instance])
    assert one(ec2, instance)["State"]["Name"] == "running"
    ec2.modify_instance_attribute(InstanceId=instance, **{field: {"Value": False}})
    assert attribute(ec2, instance, name) is False
    ec2.modify_instance_attribute(InstanceId=instance, Attribute=name, Value="true")
    with refused("OperationNotPermitted"):
        getattr(ec2, action)(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, Attribute=name, Value="false")
    getattr(ec2, action)(InstanceIds=[instance])


def test_shutdown_behaviour(ec2, instance):
    ec2.modify_instance_attribute(
        InstanceId=instance, InstanceInitiatedShutdownBehavior={"Value": "terminate"}
    )
    assert attribute(ec2, instance, "instanceInitiatedShutdownBehavior") == "terminate"
    with refused("InvalidParameterValue", "burn"):
        ec2.modify_instance_attribute(InstanceId=instance, InstanceInitiatedShutdownBehavior={"Value": "burn"})


def test_groups_are_replaced(ec2, instance):
    new = ec2.create_security_group(GroupName="attributes", Description="for a test")["GroupId"]
    ec2.modify_instance_attribute(InstanceId=instance, Groups=[new])
    assert [group["GroupId"] for group in attribute(ec2, instance, "groupSet")] == [new]
    assert [group["GroupId"] for group in one(ec2, instance)["SecurityGroups"]] == [new]
    with refused("InvalidGroup.NotFound"):
        ec2.modify_instance_attribute(InstanceId=instance, Groups=["sg-0123456789abcdef0"])
    with refused("InvalidGroupId.Malformed"):
        ec2.modify_instance_attribute(InstanceId=instance, Groups=["nonsense"])


def test_source_dest_check(ec2, instance):
    ec2.modify_instance_attribute(InstanceId=instance, SourceDestCheck={"Value": False})
    assert attribute(ec2, instance, "sourceDestCheck") is one(ec2, instance)["SourceDestCheck"] is False
    (interface,) = one(ec2, instance)["NetworkInterfaces"]
    assert interface["SourceDestCheck"] is False


def test_a_volume_may_outlive_its_instance(ec2, launch):
    (instance,) = launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}])
    devices = {d["DeviceName"]: d["Ebs"] for d in one(ec2, instance)["BlockDeviceMappings"]}
    assert devices["/dev/sdf"]["DeleteOnTermination"] is True
    kept = devices["/dev/sdf"]["VolumeId"]

    def keep(device, **ebs):
        mapping = {"DeviceName": device, "Ebs": {"DeleteOnTermination": False, **ebs}}
        ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=[mapping])

    with refused("InvalidInstanceAttributeValue", "/dev/sdz"):
        keep("/dev/sdz")
    with refused("InvalidInstanceAttributeValue", "vol-"):
        keep("/dev/sdf", VolumeId=devices["/dev/xvda"]["VolumeId"])
    keep("/dev/sdf", VolumeId=kept)
    devices = {d["DeviceName"]: d["Ebs"] for d in attribute(ec2, instance, "blockDeviceMapping")}
    assert devices["/dev/sdf"]["DeleteOnTermination"] is False
    assert devices["/dev/xvda"]["DeleteOnTermination"] is True
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "volume_available", VolumeIds=[kept])


def test_what_can_only_be_as_it_is(ec2, instance):
    ec2.modify_instance_attribute(InstanceId=instance, EbsOptimized={"Value": False})
    for wish in (
        {"EbsOptimized": {"Value": True}},
        {"EnaSupport": {"Value": True}},
        {"Kernel": {"Value": "aki-1"}},
        {"Ramdisk": {"Value": "ari-1"}},
        {"SriovNetSupport": {"Value": "simple"}},
        {"Attribute": "kernel", "Value": "aki-1"},
        {"Attribute": "ebsOptimized", "Value": "true"},
    ):
        with refused("UnsupportedOperation"):
            ec2.modify_instance_attribute(InstanceId=instance, **wish)


def test_one_attribute_at_a_time(ec2, instance):
    on = {"Value": True}
    for wish in (
        {},
        {"DisableApiStop": on, "DisableApiTermination": on},
        {"Value": "true"},
        {"Attribute": "disableApiStop", "DisableApiTermination": on},
        {"Attribute": "rootDeviceName", "Value": "/dev/sda1"},
    ):
        with refused("InvalidParameterCombination"):
            ec2.modify_instance_attribute(InstanceId=instance, **wish)
    ec2.modify_instance_attribute(InstanceId=instance, Attribute="disableApiStop", DisableApiStop=on)
    assert attribute(ec2, instance, "disableApiStop") is True
    with refused("DryRunOperation", status=412):
        ec2.modify_instance_attribute(InstanceId=instance, DisableApiStop={"Value": False}, DryRun=True)
    assert attribute(ec2, instance, "disableApiStop") is True


def test_nobody_and_the_terminated_have_no_attributes_to_modify(ec2, instance):
    wish = {"DisableApiStop": {"Value": True}}
    with refused("InvalidInstanceID.NotFound", NOBODY):
        ec2.modify_instance_attribute(InstanceId=NOBODY, **wish)
    with refused("InvalidInstanceID.Malformed"):
        ec2.modify_instance_attribute(InstanceId="nonsense", **wish)
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "instance_terminated", InstanceIds=[instance])
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_attribute(InstanceId=instance, **wish)
    with refused("IncorrectInstanceState"):
        ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="required")


def test_metadata_options_are_changed_one_by_one(ec2, instance):
    before = one(ec2, instance)["MetadataOptions"]
    assert (before["HttpTokens"], before["HttpEndpoint"]) == ("optional", "enabled")
    wish = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    answer = ec2.modify_instance_metadata_options(InstanceId=instance, **wish)
    assert answer["InstanceId"] == instance
    assert answer["InstanceMetadataOptions"] == one(ec2, instance)["MetadataOptions"] == before | wish
    ec2.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="disabled", InstanceMetadataTags="enabled")
    after = one(ec2, instance)["MetadataOptions"]
    assert after == before | wish | {"HttpEndpoint": "disabled", "InstanceMetadataTags": "enabled"}
    with refused("InvalidParameterValue", "64"):
        ec2.modify_instance_metadata_options(InstanceId=instance, HttpPutResponseHopLimit=65)
    with refused("UnsupportedOperation"):
        ec2.modify_instance_metadata_options(InstanceId=instance, HttpProtocolIpv6="enabled")
    with refused("InvalidInstanceID.NotFound"):
        ec2.modify_instance_metadata_options(InstanceId=NOBODY, HttpTokens="required")


def test_burstable_instances_are_unlimited(ec2, launch):
    (small,) = launch(CreditSpecification={"CpuCredits": "unlimited"})
    (large,) = launch(InstanceType="m5.large" if one(ec2, small)["Architecture"] == "x86_64" else "m6g.large")

    def credits(**parameters):
        answer = ec2.describe_instance_credit_specifications(**parameters)
        return {c["InstanceId"]: c["CpuCredits"] for c in answer["InstanceCreditSpecifications"]}

    assert credits(InstanceIds=[small]) == {small: "unlimited"}
    assert small in credits() and large not in credits()
    assert credits(Filters=[{"Name": "instance-id", "Values": [small]}]) == {small: "unlimited"}
    with refused("InstanceCreditSpecification.NotSupported", large):
        credits(InstanceIds=[large])
    with refused("InvalidInstanceID.NotFound"):
        credits(InstanceIds=[NOBODY])
    with refused("UnsupportedOperation", "unlimited"):
        launch(CreditSpecification={"CpuCredits": "standard"})


def test_speeds_are_the_types_own(ec2, launch):
    def volume(**ebs):
        return {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 8, **ebs}}]}

    (instance,) = launch(**volume(VolumeType="gp3", Iops=4000, Throughput=250))
    (disk,) = [d["Ebs"] for d in one(ec2, instance)["BlockDeviceMappings"] if d["DeviceName"] == "/dev/sdf"]
    (found,) = ec2.describe_volumes(VolumeIds=[disk["VolumeId"]])["Volumes"]
    assert (found["VolumeType"], found["Iops"], found["Throughput"]) == ("gp3", 4000, 250)
    for code, wish in (
        ("InvalidParameterCombination", {"VolumeType": "gp2", "Iops": 3000}),
        ("InvalidParameterCombination", {"VolumeType": "gp2", "Throughput": 125}),
        ("InvalidParameterCombination", {"VolumeType": "io1"}),
        ("InvalidParameterValue", {"VolumeType": "gp3", "Iops": 100}),
        ("InvalidParameterValue", {"VolumeType": "gp3", "Iops": 4001}),
        ("InvalidParameterValue", {"VolumeType": "gp3", "Throughput": 2001}),
        ("InvalidParameterValue", {"VolumeType": "io2", "Iops": 8001}),
    ):
        with refused(code):
            launch(**volume(**wish))
