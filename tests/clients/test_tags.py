"""Tags, on whatever has an id."""

from conftest import one, refused


def pairs(**tags):
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def of(ec2, thing):
    found = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [thing]}])["Tags"]
    return {tag["Key"]: tag["Value"] for tag in found}


def test_everything_can_be_tagged(ec2, launch, image):
    (instance,) = launch()
    shown = one(ec2, instance)
    rules = ec2.describe_security_group_rules()["SecurityGroupRules"]
    things = {
        instance: "instance",
        image: "image",
        shown["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]: "volume",
        shown["NetworkInterfaces"][0]["NetworkInterfaceId"]: "network-interface",
        shown["VpcId"]: "vpc",
        shown["SubnetId"]: "subnet",
        shown["SecurityGroups"][0]["GroupId"]: "security-group",
        rules[0]["SecurityGroupRuleId"]: "security-group-rule",
        ec2.describe_route_tables()["RouteTables"][0]["RouteTableId"]: "route-table",
        ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]: "internet-gateway",
        ec2.describe_network_acls()["NetworkAcls"][0]["NetworkAclId"]: "network-acl",
        ec2.describe_dhcp_options()["DhcpOptions"][0]["DhcpOptionsId"]: "dhcp-options",
        ec2.create_key_pair(KeyName="tagged", KeyType="ed25519")["KeyPairId"]: "key-pair",
    }
    ec2.create_tags(Resources=list(things), Tags=pairs(everything="yes"))
    found = ec2.describe_tags(Filters=[{"Name": "tag:everything", "Values": ["yes"]}])["Tags"]
    assert {tag["ResourceId"]: tag["ResourceType"] for tag in found} == things
    assert pairs(everything="yes") == ec2.describe_vpcs()["Vpcs"][0]["Tags"]
    ec2.delete_tags(Resources=list(things), Tags=[{"Key": "everything"}])
    assert ec2.describe_tags(Filters=[{"Name": "key", "Values": ["everything"]}])["Tags"] == []


def test_a_tag_is_replaced_and_deleted_with_or_without_its_value(ec2, launch):
    (instance,) = launch()
    ec2.create_tags(Resources=[instance], Tags=pairs(a="1", b="2", c=""))
    ec2.create_tags(Resources=[instance], Tags=pairs(a="3"))
    assert of(ec2, instance) == {"a": "3", "b": "2", "c": ""}
    ec2.delete_tags(Resources=[instance], Tags=pairs(a="other", b="2"))
    assert of(ec2, instance) == {"a": "3", "c": ""}
    ec2.delete_tags(Resources=[instance], Tags=[{"Key": "a"}, {"Key": "not there"}])
    assert of(ec2, instance) == {"c": ""}
    ec2.delete_tags(Resources=[instance])
    assert of(ec2, instance) == {}


def test_filters(ec2, launch):
    first, second = launch(MinCount=2, MaxCount=2)
    ec2.create_tags(Resources=[first], Tags=pairs(stage="test", owner="é"))
    ec2.create_tags(Resources=[second], Tags=pairs(stage="live"))

    def found(**filters):
        wanted = [{"Name": name, "Values": [value]} for name, value in filters.items()]
        return [(tag["Key"], tag["Value"]) for tag in ec2.describe_tags(Filters=wanted)["Tags"]]

    assert found(**{"resource-id": first}) == [("owner", "é"), ("stage", "test")]
    assert found(**{"resource-type": "instance", "value": "l*"}) == [("stage", "live")]
    assert found(**{"tag:stage": "test"}) == [("stage", "test")]
    assert found(key="stage", **{"resource-id": second}) == [("stage", "live")]


def test_limits(ec2, launch):
    (instance,) = launch()
    for key, value in (("aws:x", "1"), ("AWS:x", "1"), ("k" * 129, ""), ("a", "v" * 257), ("", "1")):
        with refused("InvalidParameterValue"):
            ec2.create_tags(Resources=[instance], Tags=pairs(**{key: value}))
    ec2.create_tags(Resources=[instance], Tags=pairs(**{f"k{n}": "é" * 256 for n in range(50)}))
    with refused("TagLimitExceeded"):
        ec2.create_tags(Resources=[instance], Tags=pairs(one_more="1"))
    ec2.create_tags(Resources=[instance], Tags=pairs(k0="in its place"))
    with refused("InvalidParameterValue", "Duplicate"):
        ec2.create_tags(Resources=[instance], Tags=[{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}])


def test_things_that_are_none(ec2, launch):
    (instance,) = launch()
    for thing, code in {
        "nonsense": "InvalidID",
        "i-nonsense": "InvalidID",
        "i-0123456789abcdef0": "InvalidInstanceID.NotFound",
        "vol-0123456789abcdef0": "InvalidVolume.NotFound",
        "subnet-0123456789abcdef0": "InvalidSubnetID.NotFound",
        "sgr-0123456789abcdef0": "InvalidSecurityGroupRuleId.NotFound",
    }.items():
        with refused(code, thing):
            ec2.create_tags(Resources=[instance, thing], Tags=pairs(a="1"))
    assert of(ec2, instance) == {}, "all of a call or nothing"


def test_dry_runs(ec2, launch):
    (instance,) = launch()
    with refused("DryRunOperation", status=412):
        ec2.create_tags(Resources=[instance], Tags=pairs(a="1"), DryRun=True)
    assert of(ec2, instance) == {}
