"""RunInstances: everything it obeys, everything it refuses, and launching once only."""

import base64
import concurrent.futures

import pytest

from conftest import find, one, refused, until

WELL_FORMED = "0123456789abcdef0"


def test_a_plain_launch_shows_all_that_a_client_reads(ec2, image, launch):
    answer = ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1, MaxCount=1)
    first = answer["Instances"][0]
    assert (first["State"]["Name"], first["State"]["Code"]) == ("pending", 0)
    assert answer["OwnerId"] == "123456789012"
    until(ec2, "instance_running", InstanceIds=[first["InstanceId"]])
    instance = one(ec2, first["InstanceId"])
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])

    assert (instance["State"], instance["StateTransitionReason"]) == ({"Name": "running", "Code": 16}, "")
    assert "StateReason" not in instance
    assert (instance["ImageId"], instance["InstanceType"]) == (image, "t3.nano")
    assert instance["Placement"] == {
        "AvailabilityZone": "us-east-1a",
        "AvailabilityZoneId": "use1-az1",
        "GroupName": "",
        "Tenancy": "default",
    }
    private = instance["PrivateIpAddress"]
    public = instance["PublicIpAddress"]
    assert private.startswith("172.31.") and public.startswith("198.18.")
    assert instance["PrivateDnsName"] == f"ip-{private.replace('.', '-')}.ec2.internal"
    assert instance["PublicDnsName"] == f"ec2-{public.replace('.', '-')}.compute-1.amazonaws.com"
    assert (instance["Architecture"], instance["Hypervisor"]) == ("x86_64", "xen")
    assert (instance["RootDeviceName"], instance["RootDeviceType"]) == ("/dev/xvda", "ebs")
    assert (instance["VirtualizationType"], instance["AmiLaunchIndex"]) == ("hvm", 0)
    assert instance["Monitoring"] == {"State": "disabled"}
    assert instance["CpuOptions"] == {"CoreCount": 1, "ThreadsPerCore": 2}
    assert instance["SourceDestCheck"] is True and instance["EbsOptimized"] is False
    assert instance["MetadataOptions"] == {
        "State": "applied",
        "HttpTokens": "optional",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "disabled",
    }
    (device,) = instance["BlockDeviceMappings"]
    assert device["DeviceName"] == "/dev/xvda"
    assert (device["Ebs"]["Status"], device["Ebs"]["DeleteOnTermination"]) == ("attached", True)
    (group,) = instance["SecurityGroups"]
    assert group["GroupName"] == "default"
    (card,) = instance["NetworkInterfaces"]
    assert card["Attachment"]["DeviceIndex"] == 0 and card["Attachment"]["Status"] == "attached"
    assert card["Association"]["PublicIp"] == public and card["Association"]["IpOwnerId"] == "amazon"
    assert card["PrivateIpAddresses"][0]["Primary"] is True
    assert card["Groups"] == [group] and card["SubnetId"] == instance["SubnetId"]


def test_the_count_is_what_fits_between_least_and_most(ec2, launch):
    ids = launch(MinCount=2, MaxCount=3)
    assert len(ids) == 3
    found = ec2.describe_instances(InstanceIds=ids)["Reservations"]
    assert len(found) == 1, "one launch is one reservation"
    assert [instance["AmiLaunchIndex"] for instance in found[0]["Instances"]] == [0, 1, 2]


def test_the_default_type_suits_the_image(ec2, image, launch):
    answer = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    assert answer["Instances"][0]["InstanceType"] == "t3.small"
    ec2.terminate_instances(InstanceIds=[answer["Instances"][0]["InstanceId"]])


def test_user_data_comes_back_as_it_was_sent(ec2, launch):
    data = "#!/bin/sh\necho é\n"
    (instance,) = launch(UserData=data)
    attribute = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    assert base64.b64decode(attribute["UserData"]["Value"]).decode() == data


def test_user_data_has_a_limit(launch):
    launch(UserData="x" * 16384)
    with refused("InvalidParameterValue", "16384"):
        launch(UserData="x" * 16385)


def test_a_key_pair_a_group_and_a_subnet(ec2, launch):
    ec2.create_key_pair(KeyName="launch", KeyType="ed25519")
    group = ec2.create_security_group(GroupName="launch", Description="d")["GroupId"]
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1c"]}])["Subnets"][0]
    (instance,) = launch(KeyName="launch", SecurityGroupIds=[group], SubnetId=subnet["SubnetId"])
    shown = one(ec2, instance)
    assert shown["KeyName"] == "launch"
    assert shown["SecurityGroups"] == [{"GroupId": group, "GroupName": "launch"}]
    assert (shown["SubnetId"], shown["Placement"]["AvailabilityZone"]) == (subnet["SubnetId"], "us-east-1c")


def test_groups_by_name_are_those_of_the_default_vpc(ec2, launch):
    group = ec2.create_security_group(GroupName="by-name", Description="d")["GroupId"]
    (instance,) = launch(SecurityGroups=["by-name"])
    assert [group["GroupId"] for group in one(ec2, instance)["SecurityGroups"]] == [group]


def test_a_zone_chooses_its_default_subnet(ec2, launch):
    (instance,) = launch(Placement={"AvailabilityZone": "us-east-1b"})
    assert one(ec2, instance)["Placement"]["AvailabilityZone"] == "us-east-1b"


def test_a_private_address_can_be_chosen_once(ec2, launch):
    (instance,) = launch(PrivateIpAddress="172.31.0.77", Placement={"AvailabilityZone": "us-east-1a"})
    assert one(ec2, instance)["PrivateIpAddress"] == "172.31.0.77"
    with refused("InvalidIPAddress.InUse", "172.31.0.77"):
        launch(PrivateIpAddress="172.31.0.77", Placement={"AvailabilityZone": "us-east-1a"})
    with refused("InvalidParameterValue", "10.0.0.1"):
        launch(PrivateIpAddress="10.0.0.1", Placement={"AvailabilityZone": "us-east-1a"})
    with refused("InvalidParameterValue"):
        launch(PrivateIpAddress="not an address")


def test_the_interface_can_be_described_by_itself(ec2, launch):
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    interface = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": False,
        "SubnetId": subnet,
        "Groups": [group],
        "Description": "mine",
        "DeleteOnTermination": False,
    }
    (instance,) = launch(NetworkInterfaces=[interface])
    shown = one(ec2, instance)
    assert "PublicIpAddress" not in shown and shown["PublicDnsName"] == ""
    (card,) = shown["NetworkInterfaces"]
    assert (card["Description"], card["SubnetId"]) == ("mine", subnet)
    assert card["Attachment"]["DeleteOnTermination"] is False
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "instance_terminated", InstanceIds=[instance])
    (left,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[card["NetworkInterfaceId"]])["NetworkInterfaces"]
    assert left["Status"] == "available" and "Attachment" not in left


def test_an_interface_and_an_instance_do_not_both_say_where(ec2, launch):
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    for said in ({"SubnetId": subnet}, {"SecurityGroupIds": [group]}, {"PrivateIpAddress": "172.31.0.9"}):
        with refused("InvalidParameterCombination", "Network interfaces"):
            launch(NetworkInterfaces=[{"DeviceIndex": 0}], **said)
    with refused("InvalidParameterCombination", "groupName"):
        launch(SubnetId=subnet, SecurityGroups=["default"])
    with refused("UnsupportedOperation"):
        launch(NetworkInterfaces=[{"DeviceIndex": 0}, {"DeviceIndex": 1}])
    with refused("InvalidParameterValue"):
        launch(NetworkInterfaces=[{"DeviceIndex": 1}])


def test_volumes(ec2, launch):
    (instance,) = launch(
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 11, "VolumeType": "gp3"}},
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 3, "DeleteOnTermination": False}},
            {"DeviceName": "/dev/sdz", "NoDevice": ""},
        ]
    )
    until(ec2, "volume_in_use", Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])
    volumes = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])["Volumes"]
    found = {v["Attachments"][0]["Device"]: v for v in volumes}
    assert {device: volume["Size"] for device, volume in found.items()} == {"/dev/xvda": 11, "/dev/sdf": 3}
    assert (found["/dev/xvda"]["VolumeType"], found["/dev/xvda"]["Iops"]) == ("gp3", 3000)
    assert (found["/dev/sdf"]["VolumeType"], found["/dev/sdf"]["Iops"]) == ("gp2", 100)
    assert found["/dev/xvda"]["AvailabilityZone"] == one(ec2, instance)["Placement"]["AvailabilityZone"]
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "instance_terminated", InstanceIds=[instance])
    until(ec2, "volume_available", VolumeIds=[found["/dev/sdf"]["VolumeId"]])
    with refused("InvalidVolume.NotFound"):
        ec2.describe_volumes(VolumeIds=[found["/dev/xvda"]["VolumeId"]])


@pytest.mark.parametrize(
    ("code", "mapping"),
    [
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/xvda", "NoDevice": ""}),
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/sdf"}),
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/sdf", "NoDevice": "", "Ebs": {"VolumeSize": 1}}),
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/sdf", "Ebs": {}}),
        ("InvalidBlockDeviceMapping", {"DeviceName": "sdf", "Ebs": {"VolumeSize": 1}}),
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}),
        ("InvalidParameterValue", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 100000}}),
        ("InvalidSnapshot.NotFound", {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": f"snap-{WELL_FORMED}"}}),
        ("InvalidSnapshotID.Malformed", {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-x"}}),
        ("UnsupportedOperation", {"DeviceName": "/dev/sdf", "VirtualName": "ephemeral0"}),
        ("UnsupportedOperation", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "Encrypted": True}}),
    ],
)
def test_wrong_volumes(launch, code, mapping):
    with refused(code):
        launch(BlockDeviceMappings=[mapping])


def test_a_device_is_named_once(launch):
    volume = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}
    with refused("InvalidBlockDeviceMapping", "/dev/sdf"):
        launch(BlockDeviceMappings=[volume, volume])


def test_tags_go_to_what_they_name(ec2, launch):
    def tags(kind):
        return {"ResourceType": kind, "Tags": [{"Key": "for", "Value": kind}]}

    (instance,) = launch(TagSpecifications=[tags("instance"), tags("volume"), tags("network-interface")])
    found = ec2.describe_tags(Filters=[{"Name": "key", "Values": ["for"]}])["Tags"]
    assert {tag["Value"]: tag["ResourceType"] for tag in found} == {
        kind: kind for kind in ("instance", "volume", "network-interface")
    }
    assert one(ec2, instance)["Tags"] == [{"Key": "for", "Value": "instance"}]
    with refused("InvalidParameterValue", "vpc"):
        launch(TagSpecifications=[tags("vpc")])
    with refused("InvalidParameterValue", "Duplicate tag key"):
        launch(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a"}, {"Key": "a"}]}])


def test_metadata_options(ec2, launch):
    wish = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "InstanceMetadataTags": "enabled"}
    (instance,) = launch(MetadataOptions=wish)
    assert one(ec2, instance)["MetadataOptions"].items() >= wish.items()
    with refused("InvalidParameterValue", "64"):
        launch(MetadataOptions={"HttpPutResponseHopLimit": 65})
    with refused("UnsupportedOperation"):
        launch(MetadataOptions={"HttpProtocolIpv6": "enabled"})


def test_stating_what_is_default_is_no_wish(launch):
    launch(
        Monitoring={"Enabled": False},
        EbsOptimized=False,
        DisableApiTermination=False,
        InstanceInitiatedShutdownBehavior="stop",
        CapacityReservationSpecification={"CapacityReservationPreference": "open"},
    )


def test_a_shutdown_behaviour_is_kept(ec2, launch):
    (instance,) = launch(InstanceInitiatedShutdownBehavior="terminate")
    attribute = ec2.describe_instance_attribute(
        InstanceId=instance, Attribute="instanceInitiatedShutdownBehavior"
    )
    assert attribute["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


def test_a_token_launches_once(ec2, image, launch):
    first = launch(ClientToken="once", MinCount=2, MaxCount=2)
    assert launch(ClientToken="once", MinCount=2, MaxCount=2) == first
    with refused("IdempotentParameterMismatch"):
        launch(ClientToken="once", MinCount=1, MaxCount=1)
    with refused("InvalidParameterValue", "ClientToken"):
        launch(ClientToken="x" * 65)


def test_one_token_from_many_threads_launches_once(daemon, launch):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        launched = list(pool.map(lambda _: launch(wait=False, ClientToken="race"), range(8)))
    assert len({tuple(ids) for ids in launched}) == 1


def test_launches_side_by_side_share_nothing(ec2, launch):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = [i for ids in pool.map(lambda _: launch(wait=False, MinCount=3, MaxCount=3), range(16)) for i in ids]
    assert len(set(ids)) == 48
    until(ec2, "instance_running", InstanceIds=ids)
    instances = [i for r in ec2.describe_instances(InstanceIds=ids)["Reservations"] for i in r["Instances"]]
    for address in ("PrivateIpAddress", "PublicIpAddress"):
        assert len({instance[address] for instance in instances}) == 48, address
    assert len({instance["NetworkInterfaces"][0]["MacAddress"] for instance in instances}) == 48


def test_a_dry_run_checks_everything_and_launches_nothing(ec2, image):
    before = find(ec2)
    wish = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "DryRun": True}
    with refused("DryRunOperation", "would have succeeded", status=412):
        ec2.run_instances(**wish)
    with refused("InvalidKeyPair.NotFound"):
        ec2.run_instances(**wish, KeyName="none")
    with refused("InvalidParameterValue"):
        ec2.run_instances(**wish, InstanceType="t9.huge")
    assert find(ec2) == before


@pytest.mark.parametrize(
    ("code", "wish"),
    [
        ("InvalidAMIID.NotFound", {"ImageId": f"ami-{WELL_FORMED}"}),
        ("InvalidAMIID.Malformed", {"ImageId": "ami-x"}),
        ("InvalidKeyPair.NotFound", {"KeyName": "nobody's"}),
        ("InvalidGroup.NotFound", {"SecurityGroupIds": [f"sg-{WELL_FORMED}"]}),
        ("InvalidGroup.NotFound", {"SecurityGroups": ["nobody's"]}),
        ("InvalidGroupId.Malformed", {"SecurityGroupIds": ["default"]}),
        ("InvalidSubnetID.NotFound", {"SubnetId": f"subnet-{WELL_FORMED}"}),
        ("InvalidSubnetID.Malformed", {"SubnetId": "10.0.0.0/8"}),
        ("InvalidParameterValue", {"InstanceType": "t3.huge"}),
        ("InvalidParameterValue", {"InstanceType": "t4g.nano"}),
        ("InvalidParameterValue", {"Placement": {"AvailabilityZone": "us-east-1z"}}),
        ("InvalidParameterValue", {"MinCount": 0}),
        ("InvalidParameterValue", {"MinCount": 2, "MaxCount": 1}),
        ("InvalidParameterValue", {"MinCount": -1}),
        ("InvalidParameterCombination", {"PrivateIpAddress": "172.31.0.9", "MaxCount": 2}),
        ("UnsupportedOperation", {"LaunchTemplate": {"LaunchTemplateName": "x"}}),
        ("UnsupportedOperation", {"IamInstanceProfile": {"Name": "x"}}),
        ("UnsupportedOperation", {"Monitoring": {"Enabled": True}}),
        ("UnsupportedOperation", {"Placement": {"Tenancy": "dedicated"}}),
    ],
)
def test_what_cannot_be(launch, code, wish):
    with refused(code):
        launch(**wish)


def test_an_image_must_be_named(ec2):
    with refused("MissingParameter", "ImageId"):
        ec2.run_instances(MinCount=1, MaxCount=1)
