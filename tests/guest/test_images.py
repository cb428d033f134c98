"""Both images boot by QEMU on the lab's KVM, serve their user-data, and obey the power button: the reference for our monitor."""

import subprocess

import pytest

from lab import REPOSITORY


def try_image(name: str, seconds: int):
    done = subprocess.run(
        [REPOSITORY / "images/try", "--seconds", str(seconds), name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return done.stdout


def test_tiny_becomes_an_instance_and_powers_off():
    console = try_image("tiny", 300)
    assert "tiny: ready: i-0123456789abcdef0, 169.254.169.15/24" in console
    assert "user-data ran as root" in console
    assert "tiny: power button" in console


@pytest.mark.slow
def test_debian_becomes_an_instance_through_its_ec2_source():
    console = try_image("debian", 1500)
    assert "Datasource DataSourceEc2Local" in console
    assert "user-data ran as root" in console
