"""Disks become images or are refused; and `tiny` boots by QEMU too, on the lab's KVM: the reference for our monitor.

`images/try debian` does the same for `debian`, by hand: one boot of it is enough for a test, and test_debian.py has that.
"""

import os
import subprocess

import pytest

from lab import ARCH, CACHE, REPOSITORY, with_qemu


def try_image(name: str, seconds: int):
    done = subprocess.run(
        [REPOSITORY / "images/try", "--seconds", str(seconds), name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return done.stdout


@with_qemu
def test_tiny_becomes_an_instance_and_powers_off():
    console = try_image("tiny", 300)
    assert "tiny: ready: i-0123456789abcdef0, 169.254.169.15/24" in console
    assert "user-data ran as root" in console
    assert "tiny: power button" in console


def test_a_raw_disk_and_a_qcow2_make_the_same_machine(cloud, launch):
    raw = CACHE / f"images/tiny-{ARCH}.raw"
    assert raw.exists()
    done = cloud.cumulet("image", "import", str(raw), "--name", "tiny-raw")
    assert done.returncode == 0, done.stderr
    cloud.images["tiny-raw"] = done.stdout.split()[0]
    instance = launch("tiny-raw")
    assert instance.ssh("cat /var/lib/tiny/instance-id").strip() == instance.id


@pytest.mark.parametrize("what", ["noise", "half an image", "a disk without a system"])
def test_what_cannot_boot_is_refused_with_a_reason_and_leaves_nothing(cloud, lab, ec2, tmp_path, what):
    whole = (CACHE / f"images/tiny-{ARCH}.qcow2").read_bytes()
    content = {"noise": os.urandom(1 << 20), "half an image": whole[: len(whole) // 2], "a disk without a system": bytes(8 << 20)}
    file = tmp_path / "disk"
    file.write_bytes(content[what])
    before = lab.shell("ls /var/lib/cumulet/images")
    done = cloud.cumulet("image", "import", str(file), "--name", "broken")
    assert done.returncode != 0
    assert "InvalidDiskImage" in done.stderr or "disk" in done.stderr, done.stderr
    assert ec2.describe_images(Filters=[{"Name": "name", "Values": ["broken"]}])["Images"] == []
    assert lab.shell("ls /var/lib/cumulet/images") == before
