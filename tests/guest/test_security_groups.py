"""Security groups as packets meet them: between instances of one subnet, at once, and in both directions.

Three instances of one subnet: a server, a client in the group that the server's group names, and a stranger.
"""

import pytest

from conftest import open_group

PING = {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "172.31.0.0/16"}]}
EVERYTHING = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def page(port: int, **source) -> dict:
    """A rule for TCP to one port."""
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}


@pytest.fixture(scope="module")
def groups(ec2):
    """Everybody's way in by ssh, and three groups without a rule for entering."""
    made = {"ssh": open_group(ec2, "ssh-only", 22)}
    for name in ("servers", "clients", "strangers"):
        made[name] = ec2.create_security_group(GroupName=name, Description=name)["GroupId"]
    rules = [page(80, UserIdGroupPairs=[{"GroupId": made["clients"]}]), PING]
    ec2.authorize_security_group_ingress(GroupId=made["servers"], IpPermissions=rules)
    return made


@pytest.fixture(scope="module")
def three(ec2, launch_for_all, groups):
    """The three instances, in one subnet, up: all of them answer by ssh."""
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"][0]
    found = {
        name: launch_for_all(SubnetId=subnet["SubnetId"], SecurityGroupIds=[groups["ssh"], groups[name]])
        for name in ("servers", "clients", "strangers")
    }
    for one in found.values():
        one.ssh("true")
    found["servers"].wait_for_console("tiny: ready")
    return found["servers"], found["clients"], found["strangers"]


def test_a_group_that_is_named_as_source_is_let_in_and_nobody_else(three):
    server, client, stranger = three
    assert server.id in client.fetch(server)
    assert stranger.fetch(server) == ""
    # Pings are let in from the whole VPC, so it was the rule and not the way.
    assert stranger.pings(server)


def test_what_no_rule_names_does_not_enter(three):
    server, client, _ = three
    assert not server.pings(client)
    assert server.fetch(client) == ""


def test_a_rule_counts_at_once_and_no_longer_than_it_stands(three, ec2, groups):
    server, _, stranger = three
    rule = page(80, IpRanges=[{"CidrIp": f"{stranger.private_address()}/32"}])
    ec2.authorize_security_group_ingress(GroupId=groups["servers"], IpPermissions=[rule])
    stranger.until(lambda: server.id in stranger.fetch(server), "the new rule lets nobody in")
    ec2.revoke_security_group_ingress(GroupId=groups["servers"], IpPermissions=[rule])
    stranger.until(lambda: stranger.fetch(server) == "", "the revoked rule still lets in")


def test_rules_for_leaving_hold_too(three, ec2, groups):
    server, client, _ = three
    for group in (groups["ssh"], groups["clients"]):
        ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[EVERYTHING])
    client.until(lambda: client.fetch(server) == "", "packets leave without a rule")
    # Answers to what was let in, and the services of the VPC, are no matter of rules.
    assert client.metadata("instance-id") == client.id
    towards = page(80, UserIdGroupPairs=[{"GroupId": groups["servers"]}])
    ec2.authorize_security_group_egress(GroupId=groups["clients"], IpPermissions=[towards])
    client.until(lambda: server.id in client.fetch(server), "the rule for leaving lets nothing out")
    for group in (groups["ssh"], groups["clients"]):
        ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[EVERYTHING])
    client.until(lambda: client.pings(server), "what is allowed again does not leave")


def test_an_address_that_is_not_ones_own_is_not_heard(three):
    server, client, _ = three
    assert client.pings(server)
    client.ssh("ip addr add 172.31.0.77/20 dev eth0")
    assert not client.pings(server, source="172.31.0.77")
    client.ssh("ip addr del 172.31.0.77/20 dev eth0")
    assert client.pings(server)
