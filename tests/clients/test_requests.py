"""What holds for every request: its signature, its form, its size."""

import pytest

from conftest import refused


def test_keys_that_are_not_the_accounts(daemon):
    with refused("AuthFailure", status=401):
        daemon.boto(aws_access_key_id="AKIAIOSFODNN7EXAMPLE").describe_vpcs()
    with refused("AuthFailure", status=401):
        daemon.boto(aws_secret_access_key="x" * 40).describe_vpcs()
    with refused("SignatureDoesNotMatch", status=403):
        daemon.boto("sts", aws_secret_access_key="x" * 40).get_caller_identity()


def test_an_action_that_there_is_not(ec2):
    with refused("InvalidAction", "CreateFleet"):
        ec2.create_fleet(LaunchTemplateConfigs=[], TargetCapacitySpecification={"TotalTargetCapacity": 1})


@pytest.mark.parametrize(
    ("code", "word", "parameters"),
    [
        ("MissingParameter", "MinCount", {"MaxCount": 1, "ImageId": "ami-0123456789abcdef0"}),
        ("UnsupportedOperation", "LaunchTemplate", {"MaxCount": 1, "MinCount": 1, "LaunchTemplate": {"Version": "1"}}),
    ],
)
def test_parameters_are_named_in_refusals(ec2, code, word, parameters):
    with refused(code, word):
        ec2.run_instances(**parameters)


def test_too_many_filter_values(ec2):
    def filters(number, values):
        return [{"Name": "vpc-id", "Values": ["*"] * values}] * number

    ec2.describe_vpcs(Filters=filters(1, 200))
    for number, values in ((1, 201), (51, 1), (3, 67)):
        with refused("FilterLimitExceeded"):
            ec2.describe_vpcs(Filters=filters(number, values))
