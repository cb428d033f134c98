"""The microVM kernel: our images boot it with no initrd, and all that an instance does works with it.

It takes minutes to compile, so these tests run only where they are told of one: `scripts/test --only kernel`.
"""

import os
import subprocess

import pytest

from cloud import instance_type
from lab import ARCH, REPOSITORY

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif("CUMULET_TEST_KERNEL" not in os.environ, reason="no kernel was built: scripts/test --only kernel"),
]
# The time of day on x86_64 comes from KVM's clock, on aarch64 from EFI's; both have the host's clock for chrony.
CLOCKSOURCE = {"x86_64": "kvm-clock", "aarch64": "arch_sys_counter"}[ARCH]


@pytest.fixture(scope="module")
def with_our_kernel(cloud):
    """with_our_kernel(image): its name in the cloud once this kernel is in it."""

    def register(image: str) -> str:
        name = f"{image}-microvm"
        if name not in cloud.images:
            line = [REPOSITORY / "scripts/build-kernel", "--arch", ARCH, "--image", image]
            made = subprocess.run(line, check=True, text=True, stdout=subprocess.PIPE)
            done = cloud.cumulet("image", "import", made.stdout.strip(), "--name", name)
            assert done.returncode == 0, done.stderr
            cloud.images[name] = done.stdout.split()[0]
        return name

    return register


def test_tiny_runs_on_it_and_finds_every_device(with_our_kernel, launch, ec2):
    instance = launch(with_our_kernel("tiny"), user_data="#!/bin/sh\necho user-data ran on $(uname -r)")
    instance.wait_for_console("-cumulet")
    said = instance.ssh(
        "uname -r; ls /proc/modules 2> /dev/null; cat /sys/devices/system/clocksource/clocksource0/current_clocksource "
        "/sys/class/misc/hw_random/rng_current /sys/class/ptp/ptp0/clock_name; ls /sys/bus/pci/slots; "
        "cat /sys/class/dmi/id/sys_vendor; date +%Y; find /sys/bus/virtio/drivers/*/virtio* -prune | cut -d/ -f6 | sort | uniq"
    )
    print(said)
    assert "-cumulet\n" in said and "/proc/modules" not in said
    assert f"\n{CLOCKSOURCE}\n" in said and "virtio_rng.0" in said and "KVM virtual PTP" in said
    assert "Amazon EC2" in said and "\n1970\n" not in said
    assert {"virtio_blk", "virtio_net", "virtio_rng"} <= set(said.split())


def test_the_power_button_is_heard_at_once(with_our_kernel, launch, ec2):
    instance = launch(with_our_kernel("tiny"))
    instance.wait_for_state("running")
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped", 120)
    assert "tiny: power button" in instance.console()


def test_a_panic_is_told_to_the_monitor(with_our_kernel, launch):
    instance = launch(with_our_kernel("tiny"))
    instance.until(lambda: instance.status_check() == "ok", "its status check did not pass")
    instance.panic()
    instance.until(lambda: instance.status_check() == "impaired", "the panic was not seen")
    assert "Kernel panic" in instance.console()


@pytest.mark.slow
def test_debian_comes_up_whole(with_our_kernel, launch):
    instance = launch(with_our_kernel("debian"), InstanceType=instance_type("small"))
    instance.wait_for_console("Cloud-init", 1500)
    instance.until(lambda: "finished" in instance.console(), "cloud-init did not finish", 1500)
    assert instance.ssh("uname -r").strip().endswith("-cumulet")
    assert instance.ssh("systemctl --failed --no-legend").strip() == ""
    assert "DataSourceEc2Local" in instance.ssh("cloud-id --long; cat /run/cloud-init/result.json")
