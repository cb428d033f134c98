"""Instances in their states, described and moved between them."""

import re

from conftest import find, one, refused, until

NOBODY = "i-0123456789abcdef0"


def names(changes):
    return [(c["PreviousState"]["Name"], c["CurrentState"]["Name"]) for c in changes]


def test_stop_and_start_keep_the_private_address_and_change_the_public_one(ec2, launch):
    (instance,) = launch()
    before = one(ec2, instance)
    stopping = ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"]
    assert names(stopping) == [("running", "stopping")]
    until(ec2, "instance_stopped", InstanceIds=[instance])
    stopped = one(ec2, instance)
    assert "PublicIpAddress" not in stopped and stopped["PublicDnsName"] == ""
    assert stopped["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert re.fullmatch(r"User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\)", stopped["StateTransitionReason"])
    assert stopped["StateReason"] == {
        "Code": "Client.UserInitiatedShutdown",
        "Message": "Client.UserInitiatedShutdown: User initiated shutdown",
    }
    assert len(stopped["BlockDeviceMappings"]) == len(stopped["NetworkInterfaces"]) == 1
    starting = ec2.start_instances(InstanceIds=[instance])["StartingInstances"]
    assert names(starting) == [("stopped", "pending")]
    until(ec2, "instance_running", InstanceIds=[instance])
    after = one(ec2, instance)
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert after["PublicIpAddress"] != before["PublicIpAddress"]
    assert after["LaunchTime"] >= before["LaunchTime"] and "StateReason" not in after


def test_a_reboot_keeps_both_addresses(ec2, launch):
    (instance,) = launch()
    before = one(ec2, instance)
    ec2.reboot_instances(InstanceIds=[instance])
    after = one(ec2, instance)
    assert (after["PrivateIpAddress"], after["PublicIpAddress"], after["State"]) == (
        before["PrivateIpAddress"],
        before["PublicIpAddress"],
        before["State"],
    )


def test_a_terminated_instance_stays_visible_without_what_it_had(ec2, launch):
    (instance,) = launch()
    root = one(ec2, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    ending = ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"]
    assert names(ending) == [("running", "shutting-down")]
    until(ec2, "instance_terminated", InstanceIds=[instance])
    ended = one(ec2, instance)
    assert ended["State"] == {"Name": "terminated", "Code": 48}
    assert ended["BlockDeviceMappings"] == ended["NetworkInterfaces"] == ended["SecurityGroups"] == []
    assert not {"VpcId", "SubnetId", "PrivateIpAddress", "PublicIpAddress"} & ended.keys()
    with refused("InvalidVolume.NotFound"):
        ec2.describe_volumes(VolumeIds=[root])


def test_what_is_asked_twice_is_done_once(ec2, launch):
    (instance,) = launch()
    assert names(ec2.start_instances(InstanceIds=[instance])["StartingInstances"]) == [("running", "running")]
    ec2.stop_instances(InstanceIds=[instance])
    until(ec2, "instance_stopped", InstanceIds=[instance])
    assert names(ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"]) == [("stopped", "stopped")]
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, "instance_terminated", InstanceIds=[instance])
    again = ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"]
    assert names(again) == [("terminated", "terminated")]


def test_states_that_do_not_allow_it(ec2, launch):
    (instance,) = launch()
    ec2.stop_instances(InstanceIds=[instance], Force=True)
    until(ec2, "instance_stopped", InstanceIds=[instance])
    with refused("IncorrectInstanceState", instance):
        ec2.reboot_instances(InstanceIds=[instance])
    ec2.terminate_instances(InstanceIds=[instance])
    for action in (ec2.start_instances, ec2.stop_instances, ec2.reboot_instances):
        with refused("IncorrectInstanceState", instance):
            action(InstanceIds=[instance])


def test_a_call_is_all_or_nothing(ec2, launch):
    (instance,) = launch()
    with refused("InvalidInstanceID.NotFound", NOBODY):
        ec2.stop_instances(InstanceIds=[instance, NOBODY])
    assert one(ec2, instance)["State"]["Name"] == "running"


def test_ids_that_are_none(ec2, launch):
    for action in (
        ec2.describe_instances,
        ec2.describe_instance_status,
        ec2.start_instances,
        ec2.stop_instances,
        ec2.reboot_instances,
        ec2.terminate_instances,
    ):
        with refused("InvalidInstanceID.NotFound", f"The instance ID '{NOBODY}' does not exist"):
            action(InstanceIds=[NOBODY])
        with refused("InvalidInstanceID.Malformed", "i-nonsense"):
            action(InstanceIds=["i-nonsense"])
    for action in (ec2.get_console_output, lambda **k: ec2.describe_instance_attribute(Attribute="kernel", **k)):
        with refused("InvalidInstanceID.NotFound"):
            action(InstanceId=NOBODY)
    other = "i-0123456789abcdef1"
    with refused("InvalidInstanceID.NotFound", f"'{NOBODY}, {other}' do not exist"):
        ec2.describe_instances(InstanceIds=[NOBODY, other])


def test_dry_runs_change_nothing(ec2, launch):
    (instance,) = launch()
    for action in (
        ec2.describe_instances,
        ec2.describe_instance_status,
        ec2.start_instances,
        ec2.stop_instances,
        ec2.reboot_instances,
        ec2.terminate_instances,
    ):
        with refused("DryRunOperation", status=412):
            action(InstanceIds=[instance], DryRun=True)
        with refused("InvalidInstanceID.NotFound"):
            action(InstanceIds=[NOBODY], DryRun=True)
    assert one(ec2, instance)["State"]["Name"] == "running"


def test_status_is_of_running_instances_unless_all_are_asked_for(ec2, launch):
    running, stopped = launch(MinCount=2, MaxCount=2)
    until(ec2, "instance_status_ok", InstanceIds=[running])
    until(ec2, "system_status_ok", InstanceIds=[running])
    ec2.stop_instances(InstanceIds=[stopped])
    until(ec2, "instance_stopped", InstanceIds=[stopped])

    def status(**more):
        found = ec2.describe_instance_status(InstanceIds=[running, stopped], **more)["InstanceStatuses"]
        return {s["InstanceId"]: s for s in found}

    assert status().keys() == {running}
    every = status(IncludeAllInstances=True)
    assert every[stopped]["SystemStatus"]["Status"] == "not-applicable"
    assert every[running]["InstanceStatus"]["Details"] == [{"Name": "reachability", "Status": "passed"}]
    assert every[running]["AvailabilityZone"].startswith("us-east-1")
    assert status(Filters=[{"Name": "instance-status.status", "Values": ["impaired"]}]) == {}


def test_console_output(ec2, launch):
    (instance,) = launch()
    answer = ec2.get_console_output(InstanceId=instance, Latest=True)
    assert answer["InstanceId"] == instance and answer["Timestamp"]
    assert instance in answer["Output"]
    with refused("DryRunOperation", status=412):
        ec2.get_console_output(InstanceId=instance, DryRun=True)


def test_every_attribute_can_be_asked_for(ec2, launch):
    (instance,) = launch(InstanceType="t3.micro")
    plain = {
        "instanceType": ("InstanceType", {"Value": "t3.micro"}),
        "disableApiTermination": ("DisableApiTermination", {"Value": False}),
        "disableApiStop": ("DisableApiStop", {"Value": False}),
        "instanceInitiatedShutdownBehavior": ("InstanceInitiatedShutdownBehavior", {"Value": "stop"}),
        "rootDeviceName": ("RootDeviceName", {"Value": "/dev/xvda"}),
        "sourceDestCheck": ("SourceDestCheck", {"Value": True}),
        "ebsOptimized": ("EbsOptimized", {"Value": False}),
        "enaSupport": ("EnaSupport", {"Value": False}),
        "enclaveOptions": ("EnclaveOptions", {"Enabled": False}),
        "productCodes": ("ProductCodes", []),
        "userData": ("UserData", {}),
        "kernel": ("KernelId", {}),
        "ramdisk": ("RamdiskId", {}),
        "sriovNetSupport": ("SriovNetSupport", {}),
    }
    for attribute, (name, value) in plain.items():
        answer = ec2.describe_instance_attribute(InstanceId=instance, Attribute=attribute)
        assert answer["InstanceId"] == instance
        assert answer.get(name, {}) == value, attribute
    groups = ec2.describe_instance_attribute(InstanceId=instance, Attribute="groupSet")["Groups"]
    assert [group["GroupName"] for group in groups] == ["default"]
    devices = ec2.describe_instance_attribute(InstanceId=instance, Attribute="blockDeviceMapping")
    assert [device["DeviceName"] for device in devices["BlockDeviceMappings"]] == ["/dev/xvda"]


def test_filters(ec2, launch):
    name = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}, {"Key": "team", "Value": "a*b"}]}]
    (web,) = launch(TagSpecifications=name, InstanceType="t3.micro", Placement={"AvailabilityZone": "us-east-1b"})
    (plain,) = launch(Placement={"AvailabilityZone": "us-east-1c"})
    both = {web, plain}
    shown = one(ec2, web)

    def found(**filters):
        return find(ec2, **filters) & both

    assert found() == both
    assert found(instance_state_name="running") == both
    assert found(instance_state_code="16") == both
    assert found(instance_type=["t3.micro", "m5.large"]) == {web}
    assert found(**{"tag:Name": "web-*"}) == {web}
    assert found(**{"tag:Name": "web-?"}) == {web}
    assert found(**{"tag:Name": "web"}) == set()
    assert found(**{"tag:team": "a\\*b"}) == {web}
    assert found(**{"tag:team": "a\\*c"}) == set()
    assert found(tag_key="team") == {web}
    assert found(tag_value=["web-1"]) == {web}
    assert found(**{"tag:Name": "web-1"}, instance_type="t3.nano") == set()
    assert found(availability_zone="us-east-1b") == {web}
    assert found(private_ip_address=shown["PrivateIpAddress"]) == {web}
    assert found(ip_address=shown["PublicIpAddress"]) == {web}
    assert found(dns_name=shown["PublicDnsName"]) == {web}
    assert found(reservation_id="r-*", owner_id="123456789012") == both
    assert found(vpc_id=shown["VpcId"], subnet_id=shown["SubnetId"]) == {web}
    assert found(**{"instance.group-name": "default"}) == both
    assert found(**{"network-interface.mac-address": shown["NetworkInterfaces"][0]["MacAddress"]}) == {web}
    assert found(**{"block-device-mapping.device-name": "/dev/xvda"}) == both
    assert found(launch_time=f"{shown['LaunchTime']:%Y-%m-%d}*") == both
    assert found(**{"metadata-options.http-tokens": "required"}) == set()
    assert found(spot_instance_request_id="*") == set()
    with refused("InvalidParameterValue", "The filter 'colour' is invalid"):
        found(colour="red")
    with refused("FilterLimitExceeded"):
        found(instance_id=[f"i-{n:017x}" for n in range(201)])


def test_an_id_named_twice_is_shown_once(ec2, launch):
    (instance,) = launch()
    found = ec2.describe_instances(InstanceIds=[instance, instance])["Reservations"]
    assert [len(reservation["Instances"]) for reservation in found] == [1]


def test_another_daemon_on_the_same_state_tells_the_same(daemon, launch):
    (instance,) = launch()
    before = one(daemon.boto(), instance)
    daemon.stop()
    daemon.start()
    after = one(daemon.boto(), instance)
    for key in ("PrivateIpAddress", "LaunchTime", "ReservationId", "BlockDeviceMappings", "Tags"):
        assert after.get(key) == before.get(key), key
