"""What exists before anyone asks: the region, its default VPC, types, the image; and who the caller is."""

import pytest

from conftest import refused


def test_the_caller_is_the_accounts_owner(daemon):
    identity = daemon.boto("sts").get_caller_identity()
    assert (identity["Account"], identity["UserId"]) == ("123456789012", "123456789012")
    assert identity["Arn"] == "arn:aws:iam::123456789012:root"


def test_one_region_with_three_zones(daemon, ec2):
    (region,) = ec2.describe_regions()["Regions"]
    assert region == {
        "RegionName": "us-east-1",
        "Endpoint": f"127.0.0.1:{daemon.port}",
        "OptInStatus": "opt-in-not-required",
    }
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert [(zone["ZoneName"], zone["ZoneId"]) for zone in zones] == [
        ("us-east-1a", "use1-az1"),
        ("us-east-1b", "use1-az2"),
        ("us-east-1c", "use1-az3"),
    ]
    assert zones[0]["State"] == "available" and zones[0]["ZoneType"] == "availability-zone"
    (zone,) = ec2.describe_availability_zones(ZoneIds=["use1-az2"])["AvailabilityZones"]
    assert zone["ZoneName"] == "us-east-1b"
    found = ec2.describe_availability_zones(Filters=[{"Name": "zone-name", "Values": ["*c"]}])
    assert len(found["AvailabilityZones"]) == 1
    with refused("InvalidParameterValue", "us-west-2"):
        ec2.describe_regions(RegionNames=["us-west-2"])
    with refused("InvalidParameterValue", "us-east-1z"):
        ec2.describe_availability_zones(ZoneNames=["us-east-1z"])


def test_the_account(ec2):
    found = ec2.describe_account_attributes()["AccountAttributes"]
    attributes = {attribute["AttributeName"]: attribute["AttributeValues"] for attribute in found}
    assert attributes["supported-platforms"] == [{"AttributeValue": "VPC"}]
    assert attributes["default-vpc"] == [{"AttributeValue": ec2.describe_vpcs()["Vpcs"][0]["VpcId"]}]
    (only,) = ec2.describe_account_attributes(AttributeNames=["default-vpc"])["AccountAttributes"]
    assert only["AttributeName"] == "default-vpc"
    with refused("InvalidParameterValue", "nonsense"):
        ec2.describe_account_attributes(AttributeNames=["nonsense"])


def test_the_default_vpc(ec2):
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    assert (vpc["CidrBlock"], vpc["State"], vpc["IsDefault"]) == ("172.31.0.0/16", "available", True)
    assert vpc["CidrBlockAssociationSet"][0]["CidrBlockState"] == {"State": "associated"}
    for attribute, name in [("enableDnsSupport", "EnableDnsSupport"), ("enableDnsHostnames", "EnableDnsHostnames")]:
        answer = ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute=attribute)
        assert answer[name] == {"Value": True}
    answer = ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableNetworkAddressUsageMetrics")
    assert answer["EnableNetworkAddressUsageMetrics"] == {"Value": False}
    (options,) = ec2.describe_dhcp_options(DhcpOptionsIds=[vpc["DhcpOptionsId"]])["DhcpOptions"]
    configuration = {o["Key"]: o["Values"] for o in options["DhcpConfigurations"]}
    assert configuration == {
        "domain-name": [{"Value": "ec2.internal"}],
        "domain-name-servers": [{"Value": "AmazonProvidedDNS"}],
    }


def test_a_subnet_in_each_zone(ec2):
    subnets = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    assert {(s["AvailabilityZone"], s["AvailabilityZoneId"], s["CidrBlock"]) for s in subnets} == {
        ("us-east-1a", "use1-az1", "172.31.0.0/20"),
        ("us-east-1b", "use1-az2", "172.31.16.0/20"),
        ("us-east-1c", "use1-az3", "172.31.32.0/20"),
    }
    assert all(s["AvailableIpAddressCount"] == 4091 and s["MapPublicIpOnLaunch"] for s in subnets)
    assert subnets[0]["SubnetArn"].endswith(f"123456789012:subnet/{subnets[0]['SubnetId']}")


def test_addresses_are_counted(ec2, launch):
    (instance,) = launch(Placement={"AvailabilityZone": "us-east-1a"})
    (subnet,) = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"]
    assert subnet["AvailableIpAddressCount"] == 4090


def test_the_way_out(ec2):
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    of_it = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
    (gateway,) = ec2.describe_internet_gateways(Filters=of_it)["InternetGateways"]
    assert gateway["Attachments"] == [{"State": "available", "VpcId": vpc}]
    (table,) = ec2.describe_route_tables(Filters=[{"Name": "association.main", "Values": ["true"]}])["RouteTables"]
    assert [(r["DestinationCidrBlock"], r["GatewayId"], r["State"], r["Origin"]) for r in table["Routes"]] == [
        ("172.31.0.0/16", "local", "active", "CreateRouteTable"),
        ("0.0.0.0/0", gateway["InternetGatewayId"], "active", "CreateRoute"),
    ]
    assert table["Associations"][0]["AssociationState"] == {"State": "associated"}
    (acl,) = ec2.describe_network_acls(Filters=[{"Name": "default", "Values": ["true"]}])["NetworkAcls"]
    assert len(acl["Associations"]) == 3
    assert [(e["RuleNumber"], e["RuleAction"], e["Egress"], e["Protocol"]) for e in acl["Entries"]] == [
        (100, "allow", True, "-1"),
        (32767, "deny", True, "-1"),
        (100, "allow", False, "-1"),
        (32767, "deny", False, "-1"),
    ]


def test_instance_types(ec2):
    kinds = {kind["InstanceType"]: kind for kind in ec2.describe_instance_types()["InstanceTypes"]}
    assert {"t3.nano", "t3.micro", "t3.small", "t3.medium", "t3.large", "m5.large", "c5.large"} <= kinds.keys()
    nano = kinds["t3.nano"]
    assert nano["VCpuInfo"]["DefaultVCpus"] == 2 and nano["MemoryInfo"] == {"SizeInMiB": 512}
    assert nano["ProcessorInfo"]["SupportedArchitectures"] == ["x86_64"]
    assert (nano["Hypervisor"], nano["BareMetal"], nano["CurrentGeneration"]) == ("nitro", False, True)
    micro = kinds["t2.micro"]
    assert (micro["VCpuInfo"]["DefaultVCpus"], micro["VCpuInfo"]["DefaultCores"], micro["Hypervisor"]) == (1, 1, "xen")
    wanted = [
        {"Name": "memory-info.size-in-mib", "Values": ["8192"]},
        {"Name": "vcpu-info.default-vcpus", "Values": ["2"]},
    ]
    found = {kind["InstanceType"] for kind in ec2.describe_instance_types(Filters=wanted)["InstanceTypes"]}
    assert found == {"m5.large", "t2.large", "t3.large"}
    with refused("InvalidInstanceType", "t9.huge"):
        ec2.describe_instance_types(InstanceTypes=["t3.nano", "t9.huge"])


def test_offerings(ec2):
    nano = [{"Name": "instance-type", "Values": ["t3.nano"]}]

    def places(**wish):
        found = ec2.describe_instance_type_offerings(Filters=nano, **wish)["InstanceTypeOfferings"]
        return [offer["Location"] for offer in found]

    assert places() == places(LocationType="region") == ["us-east-1"]
    assert places(LocationType="availability-zone") == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert places(LocationType="availability-zone-id") == ["use1-az1", "use1-az2", "use1-az3"]
    assert places(LocationType="outpost") == []


def test_images(ec2, image):
    (shown,) = ec2.describe_images(ImageIds=[image])["Images"]
    assert (shown["Name"], shown["State"], shown["OwnerId"]) == ("simulated", "available", "123456789012")
    assert (shown["Architecture"], shown["RootDeviceName"], shown["Public"]) == ("x86_64", "/dev/xvda", False)
    (root,) = shown["BlockDeviceMappings"]
    assert root["DeviceName"] == "/dev/xvda" and root["Ebs"]["VolumeSize"] == 2

    def found(*names_and_values, **more):
        filters = [{"Name": name, "Values": [value]} for name, value in names_and_values]
        return [i["ImageId"] for i in ec2.describe_images(Filters=filters, **more)["Images"]]

    assert found(("name", "simul*"), ("state", "available"), ("is-public", "false")) == [image]
    assert found(Owners=["self"]) == found(Owners=["123456789012"]) == [image]
    assert found(Owners=["amazon"]) == []
    with refused("InvalidAMIID.NotFound"):
        ec2.describe_images(ImageIds=["ami-0123456789abcdef0"])
    with refused("InvalidAMIID.Malformed"):
        ec2.describe_images(ImageIds=["simulated"])
    with refused("UnsupportedOperation"):
        ec2.describe_images(ExecutableUsers=["self"])


def test_images_are_imported_not_registered(ec2):
    with refused("InvalidBlockDeviceMapping"):
        ec2.register_image(Name="mine", RootDeviceName="/dev/xvda")
    device = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-0123456789abcdef0"}}
    with refused("InvalidSnapshot.NotFound"):
        ec2.register_image(Name="mine", BlockDeviceMappings=[device])


def test_no_elastic_addresses_yet(ec2):
    assert ec2.describe_addresses()["Addresses"] == []
    with refused("InvalidAllocationID.NotFound"):
        ec2.describe_addresses(AllocationIds=["eipalloc-0123456789abcdef0"])
    with refused("InvalidAddress.NotFound", "192.0.2.1"):
        ec2.describe_addresses(PublicIps=["192.0.2.1"])


def test_interfaces_and_volumes_of_an_instance(ec2, launch):
    (instance,) = launch()
    of_it = [{"Name": "attachment.instance-id", "Values": [instance]}]
    (card,) = ec2.describe_network_interfaces(Filters=of_it)["NetworkInterfaces"]
    assert (card["Status"], card["InterfaceType"], card["RequesterManaged"]) == ("in-use", "interface", False)
    assert card["Attachment"]["InstanceId"] == instance and card["Attachment"]["Status"] == "attached"
    assert card["Association"]["PublicDnsName"].startswith("ec2-198-18-")
    (volume,) = ec2.describe_volumes(Filters=of_it)["Volumes"]
    assert (volume["State"], volume["Encrypted"], volume["SnapshotId"]) == ("in-use", False, "")
    (attachment,) = volume["Attachments"]
    assert (attachment["Device"], attachment["State"]) == ("/dev/xvda", "attached")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda ec2, i: ec2.describe_vpcs(VpcIds=[i("vpc")]), "InvalidVpcID"),
        (lambda ec2, i: ec2.describe_subnets(SubnetIds=[i("subnet")]), "InvalidSubnetID"),
        (lambda ec2, i: ec2.describe_volumes(VolumeIds=[i("vol")]), "InvalidVolume"),
        (lambda ec2, i: ec2.describe_route_tables(RouteTableIds=[i("rtb")]), "InvalidRouteTableID"),
        (lambda ec2, i: ec2.describe_internet_gateways(InternetGatewayIds=[i("igw")]), "InvalidInternetGatewayID"),
        (lambda ec2, i: ec2.describe_network_acls(NetworkAclIds=[i("acl")]), "InvalidNetworkAclID"),
        (lambda ec2, i: ec2.describe_dhcp_options(DhcpOptionsIds=[i("dopt")]), "InvalidDhcpOptionID"),
        (lambda ec2, i: ec2.describe_network_interfaces(NetworkInterfaceIds=[i("eni")]), "InvalidNetworkInterfaceID"),
        (lambda ec2, i: ec2.deregister_image(ImageId=i("ami")), "InvalidAMIID"),
        (
            lambda ec2, i: ec2.describe_security_group_rules(SecurityGroupRuleIds=[i("sgr")]),
            "InvalidSecurityGroupRuleId",
        ),
    ],
)
def test_every_kind_of_id_has_its_own_refusals(ec2, call, code):
    with refused(f"{code}.NotFound", "0123456789abcdef0"):
        call(ec2, lambda prefix: f"{prefix}-0123456789abcdef0")
    for id in ("nonsense", "x-0123456789abcdef0"):
        with pytest.raises(ec2.exceptions.ClientError, match="Malformed"):
            call(ec2, lambda _: id)


def test_a_deregistered_image_is_gone_for_users(daemon, ec2, image, launch):
    (instance,) = launch()
    ec2.deregister_image(ImageId=image)
    assert ec2.describe_images()["Images"] == []
    with refused("InvalidAMIID.NotFound"):
        ec2.deregister_image(ImageId=image)
    with refused("InvalidAMIID.NotFound"):
        ec2.create_tags(Resources=[image], Tags=[{"Key": "a", "Value": "1"}])
    ec2.stop_instances(InstanceIds=[instance])
