"""The aws CLI, unmodified, as a user types it."""

import json

import pytest


@pytest.fixture
def aws(daemon):
    """aws(arguments): what it prints, as JSON."""
    return lambda *arguments: json.loads(daemon.aws(*arguments, "--output", "json").stdout)


def test_a_whole_life(daemon, aws, tmp_path):
    assert aws("sts", "get-caller-identity")["Account"] == "123456789012"
    image = daemon.aws(
        "ec2", "describe-images", "--owners", "self", "--query", "Images[0].ImageId", "--output", "text"
    ).stdout.strip()
    key = tmp_path / "key.pem"
    material = daemon.aws(
        "ec2", "create-key-pair", "--key-name", "cli", "--query", "KeyMaterial", "--output", "text"
    ).stdout
    key.write_text(material)
    assert material.startswith("-----BEGIN RSA PRIVATE KEY-----")
    group = aws("ec2", "create-security-group", "--group-name", "web", "--description", "web servers")["GroupId"]
    aws(
        *("ec2", "authorize-security-group-ingress", "--group-id", group),
        *("--protocol", "tcp", "--port", "80", "--cidr", "0.0.0.0/0"),
    )
    script = tmp_path / "user-data"
    script.write_text("#!/bin/sh\necho hello\n")
    launched = aws(
        *("ec2", "run-instances", "--image-id", image, "--instance-type", "t3.nano", "--count", "2"),
        *("--key-name", "cli", "--security-group-ids", group, "--user-data", f"file://{script}"),
        *("--block-device-mappings", "DeviceName=/dev/sdf,Ebs={VolumeSize=1}"),
        *("--tag-specifications", "ResourceType=instance,Tags=[{Key=Name,Value=cli}]"),
        *("--client-token", "cli"),
    )
    ids = [instance["InstanceId"] for instance in launched["Instances"]]
    assert len(ids) == 2
    daemon.aws("ec2", "wait", "instance-running", "--instance-ids", *ids)
    daemon.aws("ec2", "wait", "instance-status-ok", "--instance-ids", *ids)
    addresses = daemon.aws(
        *("ec2", "describe-instances", "--filters", "Name=tag:Name,Values=cli", "--output", "text"),
        *("--query", "Reservations[].Instances[].PublicIpAddress"),
    ).stdout.split()
    assert len(set(addresses)) == 2
    console = daemon.aws("ec2", "get-console-output", "--instance-id", ids[0], "--latest", "--output", "text")
    assert ids[0] in console.stdout
    daemon.aws("ec2", "stop-instances", "--instance-ids", *ids)
    daemon.aws("ec2", "wait", "instance-stopped", "--instance-ids", *ids)
    daemon.aws("ec2", "start-instances", "--instance-ids", *ids)
    daemon.aws("ec2", "reboot-instances", "--instance-ids", ids[0], "--dry-run", check=False)
    daemon.aws("ec2", "create-tags", "--resources", ids[0], "--tags", "Key=stage,Value=test")
    tags = aws("ec2", "describe-tags", "--filters", f"Name=resource-id,Values={ids[0]}")["Tags"]
    assert [tag["Key"] for tag in tags] == ["Name", "stage"]
    daemon.aws("ec2", "terminate-instances", "--instance-ids", *ids)
    daemon.aws("ec2", "wait", "instance-terminated", "--instance-ids", *ids)
    daemon.aws("ec2", "delete-security-group", "--group-id", group)
    daemon.aws("ec2", "delete-key-pair", "--key-name", "cli")


def test_a_dry_run_says_that_it_would_have_worked(daemon, image):
    done = daemon.aws("ec2", "run-instances", "--image-id", image, "--dry-run", check=False)
    assert done.returncode != 0
    assert "(DryRunOperation)" in done.stderr and "would have succeeded" in done.stderr


def test_an_error_says_what_to_change(daemon):
    done = daemon.aws("ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0", check=False)
    assert "(InvalidInstanceID.NotFound)" in done.stderr
    assert "The instance ID 'i-0123456789abcdef0' does not exist" in done.stderr


def test_it_pages_by_itself(aws):
    whole = aws("ec2", "describe-instance-types")["InstanceTypes"]
    paged = aws("ec2", "describe-instance-types", "--page-size", "5")["InstanceTypes"]
    assert paged == whole
    some = aws("ec2", "describe-instance-types", "--max-items", "3")
    rest = aws("ec2", "describe-instance-types", "--starting-token", some["NextToken"])
    assert some["InstanceTypes"] + rest["InstanceTypes"] == whole
