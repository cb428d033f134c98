"""What a test of the API may ask for: a daemon, clients of it, an image, instances.

    def test_a_name_is_unique(ec2):
        ec2.create_key_pair(KeyName="a")
        with refused("InvalidKeyPair.Duplicate"):
            ec2.create_key_pair(KeyName="a")
"""

import contextlib

import botocore.exceptions
import pytest

from daemon import Daemon

ROOM_FOR_MANY = """
public_pool = "198.18.0.0/16"
[limits]
vcpus_per_processor = 1000
"""
"""A configuration in which more than a thousand instances fit."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, request):
    """A daemon of the test file's own, after its first start. Its configuration is the file's `SETTINGS`."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), getattr(request.module, "SETTINGS", ROOM_FOR_MANY))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def ec2(daemon):
    """boto3's client."""
    return daemon.boto()


@pytest.fixture
def image(ec2):
    """The id of the image that a simulated cloud has."""
    return ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]


@pytest.fixture
def launch(ec2, image):
    """launch(**RunInstances parameters): the ids of instances that run; terminated when the test ends."""
    launched = []

    def launch(wait: bool = True, **parameters) -> list[str]:
        wish = {"ImageId": image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
        answer = ec2.run_instances(**(wish | parameters))
        ids = [one["InstanceId"] for one in answer["Instances"]]
        launched.extend(ids)
        if wait:
            until(ec2, "instance_running", InstanceIds=ids)
        return ids

    yield launch
    if launched:
        ec2.terminate_instances(InstanceIds=launched)


def until(ec2, waiter: str, **parameters):
    """boto3's own waiter, in steps that suit a host that is done at once."""
    ec2.get_waiter(waiter).wait(**parameters, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})


def one(ec2, instance: str) -> dict:
    """An instance as it is described."""
    return ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]


def find(ec2, **filters) -> set[str]:
    """The ids of the instances that pass filters; `_` stands for `-`, a list for several values."""
    wanted = [
        {"Name": name.replace("_", "-"), "Values": values if isinstance(values, list) else [values]}
        for name, values in filters.items()
    ]
    reservations = ec2.describe_instances(Filters=wanted)["Reservations"]
    return {instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]}


@contextlib.contextmanager
def refused(code: str, *words: str, status: int = 400):
    """The request is refused with EC2's code and status, and these words are in the sentence."""
    with pytest.raises(botocore.exceptions.ClientError) as error:
        yield
    answer = error.value.response
    said = answer["Error"]["Message"]
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), said
    assert all(word in said for word in words), said
    assert answer["ResponseMetadata"]["RequestId"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    daemon = item.funcargs.get("daemon")
    if report.failed and daemon is not None and daemon.log.exists():
        report.sections.append(("the daemon's log", daemon.log.read_text()[-4000:]))
    return report
