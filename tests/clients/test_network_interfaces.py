"""Network interfaces of one's own: made, attached to instances that run or are stopped, changed, taken back, deleted."""

import json

import pytest

from conftest import one, refused, until

ZONE = "us-east-1a"
NOBODY = "0123456789abcdef0"


@pytest.fixture
def subnet(ec2):
    """The default subnet of the tests' zone."""
    filters = [{"Name": "availability-zone", "Values": [ZONE]}]
    return ec2.describe_subnets(Filters=filters)["Subnets"][0]["SubnetId"]


@pytest.fixture
def make(ec2, subnet):
    """make(**CreateNetworkInterface parameters): the id of an interface that is available."""

    def make(**parameters) -> str:
        made = ec2.create_network_interface(**({"SubnetId": subnet} | parameters))["NetworkInterface"]
        until(ec2, "network_interface_available", NetworkInterfaceIds=[made["NetworkInterfaceId"]])
        return made["NetworkInterfaceId"]

    return make


@pytest.fixture
def instance(launch, subnet):
    """The id of an instance that runs in that subnet."""
    (instance,) = launch(SubnetId=subnet)
    return instance


def shown(ec2, interface: str) -> dict:
    return ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"][0]


def attached(ec2, interface: str) -> dict:
    """The interface's attachment once it is there."""
    for _ in range(200):
        attachment = shown(ec2, interface)["Attachment"]
        if attachment["Status"] == "attached":
            return attachment
    raise AssertionError(attachment)


def test_an_interface_is_made_as_it_was_asked_for(ec2, subnet):
    group = ec2.create_security_group(GroupName="cards", Description="d")["GroupId"]
    wish = {
        "SubnetId": subnet,
        "Description": "a card",
        "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": "172.31.0.99"}],
        "Groups": [group],
        "TagSpecifications": [{"ResourceType": "network-interface", "Tags": [{"Key": "Name", "Value": "card"}]}],
        "ClientToken": "once",
    }
    answer = ec2.create_network_interface(**wish)
    made = answer["NetworkInterface"]
    assert answer["ClientToken"] == "once"
    assert (made["Status"], made["Description"], made["PrivateIpAddress"]) == ("available", "a card", "172.31.0.99")
    assert (made["SubnetId"], made["AvailabilityZone"], made["SourceDestCheck"]) == (subnet, ZONE, True)
    assert [one["GroupId"] for one in made["Groups"]] == [group]
    assert made["TagSet"] == [{"Key": "Name", "Value": "card"}] and "Attachment" not in made
    id = made["NetworkInterfaceId"]
    assert ec2.create_network_interface(**wish)["NetworkInterface"]["NetworkInterfaceId"] == id
    with refused("IdempotentParameterMismatch"):
        ec2.create_network_interface(**(wish | {"Description": "another"}))
    with refused("InvalidIPAddress.InUse"):
        ec2.create_network_interface(SubnetId=subnet, PrivateIpAddress="172.31.0.99")
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    ec2.delete_network_interface(NetworkInterfaceId=id)
    with refused("InvalidNetworkInterfaceID.NotFound", id):
        shown(ec2, id)
    with refused("InvalidNetworkInterfaceID.NotFound", id):
        ec2.delete_network_interface(NetworkInterfaceId=id)


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        ("InvalidSubnetID.NotFound", {"SubnetId": f"subnet-{NOBODY}"}),
        ("InvalidGroup.NotFound", {"Groups": [f"sg-{NOBODY}"]}),
        ("InvalidParameterValue", {"PrivateIpAddress": "10.0.0.1"}),
        ("InvalidParameterValue", {"Description": "x" * 256}),
        ("UnsupportedOperation", {"SecondaryPrivateIpAddressCount": 1}),
        ("UnsupportedOperation", {"PrivateIpAddresses": [{"Primary": False, "PrivateIpAddress": "172.31.0.98"}]}),
        ("UnsupportedOperation", {"Ipv6AddressCount": 1}),
        ("UnsupportedOperation", {"InterfaceType": "efa"}),
        ("DryRunOperation", {"DryRun": True}),
    ],
)
def test_interfaces_that_are_not_made(ec2, subnet, code, parameters):
    before = len(ec2.describe_network_interfaces()["NetworkInterfaces"])
    with refused(code, status=412 if code == "DryRunOperation" else 400):
        ec2.create_network_interface(**({"SubnetId": subnet} | parameters))
    assert len(ec2.describe_network_interfaces()["NetworkInterfaces"]) == before


def test_an_interface_comes_to_a_running_instance_and_goes(ec2, make, instance):
    card = make()
    attachment = ec2.attach_network_interface(NetworkInterfaceId=card, InstanceId=instance, DeviceIndex=1)["AttachmentId"]
    there = attached(ec2, card)
    assert (there["AttachmentId"], there["DeviceIndex"], there["InstanceId"]) == (attachment, 1, instance)
    assert there["DeleteOnTermination"] is False and shown(ec2, card)["Status"] == "in-use"
    cards = {row["Attachment"]["DeviceIndex"]: row["NetworkInterfaceId"] for row in one(ec2, instance)["NetworkInterfaces"]}
    assert cards[1] == card and len(cards) == 2
    with refused("InvalidNetworkInterface.InUse", card):
        ec2.attach_network_interface(NetworkInterfaceId=card, InstanceId=instance, DeviceIndex=2)
    with refused("InvalidParameterValue", "in use"):
        ec2.delete_network_interface(NetworkInterfaceId=card)
    with refused("InvalidParameterValue", "index '1'"):
        ec2.attach_network_interface(NetworkInterfaceId=make(), InstanceId=instance, DeviceIndex=1)
    with refused("AttachmentLimitExceeded", "t3.nano"):
        ec2.attach_network_interface(NetworkInterfaceId=make(), InstanceId=instance, DeviceIndex=2)
    ec2.detach_network_interface(AttachmentId=attachment)
    until(ec2, "network_interface_available", NetworkInterfaceIds=[card])
    assert len(one(ec2, instance)["NetworkInterfaces"]) == 1
    with refused("InvalidAttachmentID.NotFound", attachment):
        ec2.detach_network_interface(AttachmentId=attachment)
    attachment = ec2.attach_network_interface(NetworkInterfaceId=card, InstanceId=instance, DeviceIndex=1)["AttachmentId"]
    attached(ec2, card)
    ec2.detach_network_interface(AttachmentId=attachment, Force=True)
    until(ec2, "network_interface_available", NetworkInterfaceIds=[card])
    ec2.delete_network_interface(NetworkInterfaceId=card)


def test_the_primary_interface_stays(ec2, instance):
    primary = one(ec2, instance)["NetworkInterfaces"][0]
    with refused("OperationNotPermitted", "index 0"):
        ec2.detach_network_interface(AttachmentId=primary["Attachment"]["AttachmentId"], Force=True)


def test_an_interface_stays_in_its_zone(ec2, instance):
    filters = [{"Name": "availability-zone", "Values": ["us-east-1b"]}]
    elsewhere = ec2.describe_subnets(Filters=filters)["Subnets"][0]["SubnetId"]
    card = ec2.create_network_interface(SubnetId=elsewhere)["NetworkInterface"]["NetworkInterfaceId"]
    with refused("InvalidParameterCombination", "zone"):
        ec2.attach_network_interface(NetworkInterfaceId=card, InstanceId=instance, DeviceIndex=1)


def test_attributes_change_one_at_a_time(ec2, make, instance):
    card = make()
    group = ec2.create_security_group(GroupName="changed", Description="d")["GroupId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=card, Description={"Value": "told"})
    ec2.modify_network_interface_attribute(NetworkInterfaceId=card, Groups=[group])
    ec2.modify_network_interface_attribute(NetworkInterfaceId=card, SourceDestCheck={"Value": False})
    now = shown(ec2, card)
    assert (now["Description"], now["SourceDestCheck"]) == ("told", False)
    assert [one["GroupId"] for one in now["Groups"]] == [group]
    ask = lambda name: ec2.describe_network_interface_attribute(NetworkInterfaceId=card, Attribute=name)
    assert ask("description")["Description"] == {"Value": "told"}
    assert ask("sourceDestCheck")["SourceDestCheck"] == {"Value": False}
    assert [one["GroupId"] for one in ask("groupSet")["Groups"]] == [group]
    assert "Attachment" not in ask("attachment")
    attachment = ec2.attach_network_interface(NetworkInterfaceId=card, InstanceId=instance, DeviceIndex=1)["AttachmentId"]
    goes = {"AttachmentId": attachment, "DeleteOnTermination": True}
    ec2.modify_network_interface_attribute(NetworkInterfaceId=card, Attachment=goes)
    assert ask("attachment")["Attachment"]["DeleteOnTermination"] is True
    with refused("InvalidParameterCombination"):
        ec2.modify_network_interface_attribute(NetworkInterfaceId=card)
    with refused("InvalidParameterCombination"):
        ec2.modify_network_interface_attribute(NetworkInterfaceId=card, Groups=[group], Description={"Value": "two"})
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "instance_terminated", InstanceIds=[instance])
    with refused("InvalidNetworkInterfaceID.NotFound", card):
        shown(ec2, card)


def test_a_stopped_instance_takes_interfaces_too(ec2, make, instance):
    ec2.stop_instances(InstanceIds=[instance])
    until(ec2, "instance_stopped", InstanceIds=[instance])
    card = make()
    ec2.attach_network_interface(NetworkInterfaceId=card, InstanceId=instance, DeviceIndex=1)
    attached(ec2, card)
    ec2.start_instances(InstanceIds=[instance])
    until(ec2, "instance_running", InstanceIds=[instance])
    attached(ec2, card)
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "instance_terminated", InstanceIds=[instance])
    assert shown(ec2, card)["Status"] == "available"


def test_the_aws_cli_does_it_too(daemon, ec2, subnet, instance):
    made = json.loads(daemon.aws("ec2", "create-network-interface", "--subnet-id", subnet).stdout)
    card = made["NetworkInterface"]["NetworkInterfaceId"]
    daemon.aws("ec2", "wait", "network-interface-available", "--network-interface-ids", card)
    words = ["--network-interface-id", card, "--instance-id", instance, "--device-index", "1"]
    attachment = json.loads(daemon.aws("ec2", "attach-network-interface", *words).stdout)["AttachmentId"]
    daemon.aws("ec2", "detach-network-interface", "--attachment-id", attachment)
    until(ec2, "network_interface_available", NetworkInterfaceIds=[card])
    daemon.aws("ec2", "wait", "network-interface-available", "--network-interface-ids", card)
    daemon.aws("ec2", "delete-network-interface", "--network-interface-id", card)
