"""Lists in pages, of every Describe that has them."""

import pytest

from conftest import refused

SHORT_LISTS = [
    "describe_vpcs",
    "describe_subnets",
    "describe_route_tables",
    "describe_internet_gateways",
    "describe_network_acls",
    "describe_dhcp_options",
    "describe_network_interfaces",
    "describe_security_groups",
    "describe_security_group_rules",
    "describe_volumes",
    "describe_images",
    "describe_tags",
    "describe_instances",
    "describe_instance_status",
    "describe_instance_types",
    "describe_instance_type_offerings",
]


@pytest.mark.parametrize("action", SHORT_LISTS)
def test_bounds_and_tokens(ec2, action):
    describe = getattr(ec2, action)
    assert "NextToken" not in describe(MaxResults=100)
    for number in (-5, 0, 4, 1001):
        with refused("InvalidParameterValue", str(number)):
            describe(MaxResults=number)
    for token in ("nonsense", "QUJD"):
        with refused("InvalidNextToken"):
            describe(NextToken=token)
    with refused("DryRunOperation", status=412):
        describe(DryRun=True)


def test_pages_of_instance_types_join_to_the_whole(ec2):
    def names(pages):
        return [kind["InstanceType"] for page in pages for kind in page["InstanceTypes"]]

    whole = names([ec2.describe_instance_types()])
    pages = list(ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 5}))
    assert names(pages) == whole == sorted(whole)
    assert all(len(page["InstanceTypes"]) == 5 for page in pages[:-1])


def test_a_token_belongs_to_its_request(ec2):
    token = ec2.describe_instance_types(MaxResults=5)["NextToken"]
    bare = [{"Name": "bare-metal", "Values": ["false"]}]
    with refused("InvalidNextToken"):
        ec2.describe_instance_types(MaxResults=5, NextToken=token, Filters=bare)
    with refused("InvalidNextToken"):
        ec2.describe_instance_type_offerings(MaxResults=5, NextToken=token)
    ec2.describe_instance_types(MaxResults=6, NextToken=token)


def test_ids_are_not_paged(ec2, launch):
    (instance,) = launch()
    with refused("InvalidParameterCombination", "instancesSet", "maxResults"):
        ec2.describe_instances(InstanceIds=[instance], MaxResults=5)
    with refused("InvalidParameterCombination"):
        ec2.describe_instance_status(InstanceIds=[instance], MaxResults=5)


def test_a_thousand_instances(ec2, launch):
    tag = [{"ResourceType": "instance", "Tags": [{"Key": "many", "Value": "yes"}]}]
    launched = set()
    for _ in range(5):
        launched |= set(launch(wait=False, MinCount=200, MaxCount=200, TagSpecifications=tag))
    assert len(launched) == 1000
    whole = [i["InstanceId"] for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    for size, filters in ((1000, []), (137, []), (300, [{"Name": "tag:many", "Values": ["y*"]}])):
        pages = ec2.get_paginator("describe_instances").paginate(
            Filters=filters, PaginationConfig={"PageSize": size}
        )
        sizes, seen = [], []
        for page in pages:
            ids = [i["InstanceId"] for r in page["Reservations"] for i in r["Instances"]]
            sizes.append(len(ids))
            seen += ids
        assert len(seen) == len(set(seen)), "nothing is shown twice"
        assert launched <= set(seen)
        assert all(number == size for number in sizes[:-1])
        assert filters or seen == whole, "the order is the same in pages"
    named = ec2.describe_instances(InstanceIds=sorted(launched))["Reservations"]
    assert sum(len(reservation["Instances"]) for reservation in named) == 1000
