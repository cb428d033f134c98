"""Security groups: both ways to say a rule, both ways to take one back."""

import itertools

import pytest

from conftest import refused

NOBODY = "sg-0123456789abcdef0"
NUMBERS = itertools.count()


@pytest.fixture
def group(ec2):
    """A new group of the default VPC."""
    return ec2.create_security_group(GroupName=f"group-{next(NUMBERS)}", Description="for a test")["GroupId"]


def shown(ec2, group):
    return ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]


def tcp(port, *cidrs, **more):
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": c} for c in cidrs]} | more


def test_a_new_group_lets_everything_out_and_nothing_in(ec2):
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "a", "Value": "b"}]}]
    made = ec2.create_security_group(GroupName="new", Description="what for", VpcId=vpc, TagSpecifications=tags)
    group = shown(ec2, made["GroupId"])
    arn = f"arn:aws:ec2:us-east-1:123456789012:security-group/{made['GroupId']}"
    assert made["Tags"] == group["Tags"] == [{"Key": "a", "Value": "b"}]
    assert made["SecurityGroupArn"] == group["SecurityGroupArn"] == arn
    assert (group["GroupName"], group["Description"], group["VpcId"]) == ("new", "what for", vpc)
    assert group["IpPermissions"] == []
    assert group["IpPermissionsEgress"] == [
        {
            "IpProtocol": "-1",
            "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
            "Ipv6Ranges": [],
            "PrefixListIds": [],
            "UserIdGroupPairs": [],
        }
    ]


def test_the_default_group_lets_its_members_talk(ec2):
    (group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    (permission,) = group["IpPermissions"]
    assert permission["IpProtocol"] == "-1"
    assert permission["UserIdGroupPairs"] == [{"GroupId": group["GroupId"], "UserId": "123456789012"}]
    with refused("CannotDelete", group["GroupId"]):
        ec2.delete_security_group(GroupId=group["GroupId"])


def test_rules_come_back_as_they_were_said(ec2, group):
    web = tcp(80, "10.0.0.0/8", "0.0.0.0/0")
    web["IpRanges"][0]["Description"] = "inside"
    answer = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[web, tcp(22, "192.0.2.1/32")])
    assert answer["Return"] is True
    rules = answer["SecurityGroupRules"]
    assert [(r["FromPort"], r["CidrIpv4"]) for r in rules] == [
        (80, "10.0.0.0/8"),
        (80, "0.0.0.0/0"),
        (22, "192.0.2.1/32"),
    ]
    assert (rules[0]["Description"], rules[0]["IsEgress"], rules[0]["GroupId"]) == ("inside", False, group)
    permissions = shown(ec2, group)["IpPermissions"]
    assert [(p["FromPort"], len(p["IpRanges"])) for p in permissions] == [(22, 1), (80, 2)]
    found = ec2.describe_security_group_rules(SecurityGroupRuleIds=[r["SecurityGroupRuleId"] for r in rules])
    assert {r["SecurityGroupRuleId"]: r for r in found["SecurityGroupRules"]} == {
        r["SecurityGroupRuleId"]: r for r in rules
    }
    assert rules[0]["SecurityGroupRuleArn"].endswith(rules[0]["SecurityGroupRuleId"])


def test_protocols_and_peers_of_all_kinds(ec2, group):
    permissions = [
        {"IpProtocol": "udp", "FromPort": 53, "ToPort": 54, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
        {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {"IpProtocol": "50", "IpRanges": [{"CidrIp": "100.68.0.18/18"}]},
        {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group, "Description": "us"}]},
    ]
    rules = ec2.authorize_security_group_egress(GroupId=group, IpPermissions=permissions)["SecurityGroupRules"]
    said = [
        (r["IpProtocol"], r["FromPort"], r["ToPort"], r.get("CidrIpv4"), r.get("CidrIpv6"), "ReferencedGroupInfo" in r)
        for r in rules
    ]
    assert said == [
        ("udp", 53, 54, None, "2001:db8::/32", False),
        ("icmp", 8, -1, "0.0.0.0/0", None, False),
        ("50", -1, -1, "100.68.0.0/18", None, False),
        ("-1", -1, -1, None, None, True),
    ]
    assert all(rule["IsEgress"] for rule in rules)
    assert rules[3]["ReferencedGroupInfo"]["GroupId"] == group


def test_the_old_way_to_say_a_rule(ec2):
    ec2.create_security_group(GroupName="old", Description="d")
    other = ec2.create_security_group(GroupName="other", Description="d")["GroupId"]
    old = {"GroupName": "old", "IpProtocol": "tcp", "FromPort": 22, "ToPort": 23, "CidrIp": "0.0.0.0/0"}
    (rule,) = ec2.authorize_security_group_ingress(**old)["SecurityGroupRules"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 23)
    ec2.revoke_security_group_ingress(**old)
    by_group = ec2.authorize_security_group_ingress(GroupName="old", SourceSecurityGroupName="other")
    protocols = [rule["IpProtocol"] for rule in by_group["SecurityGroupRules"]]
    assert protocols == ["tcp", "udp", "icmp"]
    assert {r["ReferencedGroupInfo"]["GroupId"] for r in by_group["SecurityGroupRules"]} == {other}


def test_rules_are_taken_back_by_what_they_say_or_by_id(ec2, group):
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(1, "0.0.0.0/0"), tcp(2, "0.0.0.0/0")])
    gone = ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(1, "0.0.0.0/0")])
    assert [rule["FromPort"] for rule in gone["RevokedSecurityGroupRules"]] == [1]
    group_filter = [{"Name": "group-id", "Values": [group]}]
    rules = ec2.describe_security_group_rules(Filters=group_filter)["SecurityGroupRules"]
    ids = {rule["IsEgress"]: [rule["SecurityGroupRuleId"]] for rule in rules}
    with refused("InvalidSecurityGroupRuleId.NotFound"):
        ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=ids[True])
    ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=ids[False])
    ec2.revoke_security_group_egress(GroupId=group, SecurityGroupRuleIds=ids[True])
    assert ec2.describe_security_group_rules(Filters=group_filter)["SecurityGroupRules"] == []
    with refused("InvalidPermission.NotFound"):
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(1, "0.0.0.0/0")])
    with refused("MissingParameter"):
        ec2.revoke_security_group_ingress(GroupId=group)


def test_a_rule_is_there_once(ec2, group):
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(80, "0.0.0.0/0")])
    with refused("InvalidPermission.Duplicate", "0.0.0.0/0"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(443, "0.0.0.0/0"), tcp(80, "0.0.0.0/0")])
    assert len(shown(ec2, group)["IpPermissions"]) == 1


def test_rules_have_tags(ec2, group):
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "why", "Value": "web"}]}]
    answer = ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[tcp(80, "0.0.0.0/0")], TagSpecifications=tags
    )
    (rule,) = answer["SecurityGroupRules"]
    assert rule["Tags"] == [{"Key": "why", "Value": "web"}]
    found = ec2.describe_security_group_rules(Filters=[{"Name": "tag:why", "Values": ["web"]}])
    assert [r["SecurityGroupRuleId"] for r in found["SecurityGroupRules"]] == [rule["SecurityGroupRuleId"]]


def test_a_group_in_use_is_not_deleted(ec2, group, launch):
    other = ec2.create_security_group(GroupName="refers", Description="d")["GroupId"]
    peer = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[peer])
    with refused("DependencyViolation", group):
        ec2.delete_security_group(GroupId=group)
    ec2.revoke_security_group_ingress(GroupId=other, IpPermissions=[peer])
    (instance,) = launch(SecurityGroupIds=[group, other])
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    ec2.terminate_instances(InstanceIds=[instance])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance], WaiterConfig={"Delay": 0.05})
    assert ec2.delete_security_group(GroupId=group)["GroupId"] == group
    assert ec2.delete_security_group(GroupName="refers")["Return"] is True
    with refused("InvalidGroup.NotFound"):
        ec2.delete_security_group(GroupId=group)


def test_names(ec2):
    ec2.create_security_group(GroupName="named", Description="d")
    with refused("InvalidGroup.Duplicate", "named"):
        ec2.create_security_group(GroupName="named", Description="d")
    for name in ("default", "sg-name", "x" * 256, "é", ""):
        with refused("InvalidParameterValue"):
            ec2.create_security_group(GroupName=name, Description="d")
    with refused("InvalidParameterValue"):
        ec2.create_security_group(GroupName="described", Description="é")
    with refused("InvalidVpcID.NotFound"):
        ec2.create_security_group(GroupName="x", Description="d", VpcId="vpc-0123456789abcdef0")


def test_filters(ec2, group):
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(8443, "203.0.113.0/24")])

    def found(**filters):
        wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        return {g["GroupId"] for g in ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]}

    assert found(**{"ip-permission.cidr": "203.0.113.0/24"}) == {group}
    assert found(**{"ip-permission.from-port": "8443", "ip-permission.protocol": "tcp"}) == {group}
    assert found(group_id=group, description="for*") == {group}
    assert group in found(**{"egress.ip-permission.cidr": "0.0.0.0/0"})
    assert found(**{"egress.ip-permission.cidr": "203.0.113.0/24"}) == set()


@pytest.mark.parametrize(
    ("code", "permission"),
    [
        ("InvalidParameterValue", tcp(80, "10.0.0.0/33")),
        ("InvalidParameterValue", tcp(80, "::/0")),
        ("InvalidParameterValue", tcp(70000, "0.0.0.0/0")),
        ("InvalidParameterValue", tcp(80, "0.0.0.0/0", ToPort=79)),
        ("InvalidParameterValue", tcp(80, "0.0.0.0/0", IpProtocol="ssh")),
        ("InvalidParameterValue", {"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}),
        ("InvalidParameterValue", tcp(80, "0.0.0.0/0") | {"IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "é"}]}),
        ("MissingParameter", tcp(80)),
        ("InvalidGroup.NotFound", tcp(80, UserIdGroupPairs=[{"GroupId": NOBODY}])),
        ("InvalidGroup.NotFound", tcp(80, UserIdGroupPairs=[{"GroupName": "nobody's"}])),
        ("InvalidGroup.NotFound", tcp(80, UserIdGroupPairs=[{"GroupId": NOBODY, "UserId": "210987654321"}])),
        ("InvalidGroupId.Malformed", tcp(80, UserIdGroupPairs=[{"GroupId": "web"}])),
        ("UnsupportedOperation", tcp(80, PrefixListIds=[{"PrefixListId": "pl-0123456789abcdef0"}])),
    ],
)
def test_wrong_rules(ec2, group, code, permission):
    before = shown(ec2, group)
    for authorize in (ec2.authorize_security_group_ingress, ec2.authorize_security_group_egress):
        with refused(code):
            authorize(GroupId=group, IpPermissions=[tcp(1, "0.0.0.0/0"), permission])
    assert shown(ec2, group) == before, "all rules of a call or none"


def test_there_are_limits(ec2, group, launch):
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(p, "0.0.0.0/0") for p in range(1, 61)])
    with refused("RulesPerSecurityGroupLimitExceeded"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(61, "0.0.0.0/0")])
    groups = [ec2.create_security_group(GroupName=f"five-{n}", Description="d")["GroupId"] for n in range(6)]
    launch(SecurityGroupIds=groups[:5])
    with refused("SecurityGroupsPerInstanceLimitExceeded"):
        launch(SecurityGroupIds=groups)


def test_groups_that_are_none(ec2):
    for call in (
        lambda: ec2.delete_security_group(GroupId=NOBODY),
        lambda: ec2.describe_security_groups(GroupIds=[NOBODY]),
        lambda: ec2.describe_security_groups(GroupNames=["nobody's"]),
        lambda: ec2.authorize_security_group_ingress(GroupId=NOBODY, IpPermissions=[tcp(1, "0.0.0.0/0")]),
        lambda: ec2.revoke_security_group_egress(GroupId=NOBODY, IpPermissions=[tcp(1, "0.0.0.0/0")]),
        lambda: ec2.delete_security_group(GroupName="nobody's"),
    ):
        with refused("InvalidGroup.NotFound"):
            call()
    with refused("MissingParameter"):
        ec2.delete_security_group()


def test_dry_runs(ec2, group):
    permissions = [tcp(99, "0.0.0.0/0")]
    before = shown(ec2, group)
    for call in (
        lambda: ec2.create_security_group(GroupName="dry", Description="d", DryRun=True),
        lambda: ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions, DryRun=True),
        lambda: ec2.authorize_security_group_egress(GroupId=group, IpPermissions=permissions, DryRun=True),
        lambda: ec2.delete_security_group(GroupId=group, DryRun=True),
        lambda: ec2.describe_security_groups(DryRun=True),
    ):
        with refused("DryRunOperation", status=412):
            call()
    with refused("InvalidPermission.NotFound"):
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=permissions, DryRun=True)
    assert shown(ec2, group) == before
