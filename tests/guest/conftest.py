"""What a guest test may ask for: the lab, the cloud in it, clients of the cloud, instances.

A guest test is a few lines: launch, wait for the console or ssh, assert.

    def test_user_data_runs(launch):
        instance = launch(user_data="#!/bin/sh\necho it ran")
        instance.wait_for_console("it ran")
"""

import time
from contextlib import contextmanager, suppress

import pytest
from _pytest.runner import runtestprotocol
from botocore.exceptions import ClientError

from cloud import PORT, Cloud, Instance, instance_type
from lab import LAB_NAME, SLOWNESS, Lab, free_port

# How often a test is run at most.
ATTEMPTS = 3
# What is said at the end of tests that ran again.
FAILURES: list[str] = []


@pytest.fixture(scope="session")
def port():
    """The port of this machine's loopback that leads to the cloud's."""
    return free_port()


@pytest.fixture(scope="session")
def lab(port):
    """A started lab of the tests' own, stopped at the end; ended at once when it is broken, for nothing in it would end."""
    lab = Lab(LAB_NAME)
    lab.start("--forward", f"{port}:{PORT}")
    with lab.watched():
        yield lab
    lab.stop()


@pytest.fixture(scope="session")
def cloud(lab, port):
    """The daemon, running in the lab, with the image `tiny` registered."""
    cloud = Cloud(lab, port)
    cloud.start()
    cloud.image("tiny")
    return cloud


@pytest.fixture(scope="session")
def ec2(cloud):
    """boto3's client of the cloud."""
    return cloud.ec2()


@pytest.fixture(scope="session")
def key(ec2, tmp_path_factory):
    """A key pair made by the cloud: its name, and the file of its private half."""
    made = ec2.create_key_pair(KeyName="guest-tests", KeyType="ed25519")
    file = tmp_path_factory.mktemp("key") / "guest-tests.pem"
    file.write_text(made["KeyMaterial"])
    file.chmod(0o600)
    return made["KeyName"], file


@pytest.fixture(scope="session")
def reachable(ec2):
    """A security group that lets everybody in to ssh and to pages."""
    return open_group(ec2, "reachable", 22, 80)


def open_group(ec2, name: str, *ports: int) -> str:
    """A new security group of the default VPC that lets everybody in to these TCP ports; its id."""
    group = ec2.create_security_group(GroupName=name, Description=f"everybody to {ports}")["GroupId"]
    rules = [
        {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]} for port in ports
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
    return group


def run_when_there_is_room(ec2, seconds: float = 180, **parameters) -> dict:
    """RunInstances, again and again while the machines of earlier tests are still ending."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        try:
            return ec2.run_instances(**parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] != "InsufficientInstanceCapacity" or time.monotonic() > deadline:
                raise
        time.sleep(1)


@contextmanager
def launcher(cloud: Cloud, ec2, key, group: str):
    """launch(**RunInstances parameters): an instance of `tiny` with the tests' key; what it launched is terminated at the end."""
    launched = []

    def launch(image: str = "tiny", user_data: str = "", **parameters) -> Instance:
        wish = {"InstanceType": instance_type("nano"), "MinCount": 1, "MaxCount": 1, "KeyName": key[0], "UserData": user_data}
        if "NetworkInterfaces" not in parameters:
            wish["SecurityGroupIds"] = [group]
        answer = run_when_there_is_room(ec2, ImageId=cloud.image(image), **(wish | parameters))
        launched.extend(one["InstanceId"] for one in answer["Instances"])
        return Instance(cloud, answer["Instances"][0]["InstanceId"], key[1])

    yield launch
    if launched:
        ec2.terminate_instances(InstanceIds=launched)


@pytest.fixture
def launch(cloud, ec2, key, reachable):
    """A launcher for one test."""
    with launcher(cloud, ec2, key, reachable) as launch:
        yield launch


@pytest.fixture(scope="module")
def launch_for_all(cloud, ec2, key, reachable):
    """A launcher whose instances live as long as the tests of one file."""
    with launcher(cloud, ec2, key, reachable) as launch:
        yield launch


@pytest.fixture(scope="module")
def instance(launch_for_all):
    """An instance of several processors that the tests of one file share: they leave it as they found it."""
    return launch_for_all(InstanceType=instance_type("nano", several=True))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Runs a test; again, in a new lab, when it failed (docs/lab.md says why an emulated computer can be at fault): once, and
    once more where that computer itself says that it is broken.

    What failed is kept and told at the end, with what the computer says about it, if it does.
    """
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(ATTEMPTS):
        # After the last test the lab would be stopped before it is asked: so that test is its own next one, and what it leaves
        # is torn down at the session's end.
        reports = runtestprotocol(item, nextitem=nextitem or item, log=False)
        failed = [report for report in reports if report.failed]
        trouble = Lab(LAB_NAME).trouble() if failed else ""
        if not failed or attempt + 1 == ATTEMPTS or (attempt > 0 and not trouble):
            break
        kept = Lab(LAB_NAME).keep(f"{item.name}-{['first', 'second'][attempt]}-time")
        (kept / "failure").write_text("\n\n".join(report.longreprtext for report in failed))
        FAILURES.append(f"{item.nodeid}: {trouble or 'its computer does not say that it is broken: look whether it is us'}; kept: {kept}")
        # All fixtures end, the lab's included, and are made anew. What they find that they cannot take back is gone with the lab.
        with suppress(Exception):
            item.session._setupstate.teardown_exact(None)
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session):
    """Tells whoever handed out the tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["failures"] = FAILURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Hears it from each."""
    FAILURES.extend(getattr(node, "workeroutput", {}).get("failures", []))


def pytest_terminal_summary(terminalreporter):
    """Says at the end how often that was so."""
    for one in FAILURES:
        terminalreporter.write_line(f"FAILED, and was run again in a new lab: {one}", red=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test names the folder where what explains it is kept."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.append(("kept", str(Lab(LAB_NAME).keep(item.name))))
