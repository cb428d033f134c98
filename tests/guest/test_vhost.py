"""Packets that the host's kernel carries itself (vhost-net): a daemon that is told so, and one that is no longer."""

import base64
import hashlib
import os

import pytest

from cloud import CONFIGURATION, instance_type

# Enough that every ring goes round: it has 256 places (crates/devices/src/virtio/net).
BYTES = 2 << 20
PLACES = 256
# What differs from boot to boot.
BOOT = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture
def by_the_host(cloud, lab):
    """The daemon has the host carry packets, until this is called or the test ends."""
    lab.shell(f"modprobe vhost_net; sed -i '1i vhost_net = true' {CONFIGURATION}")
    cloud.kill_daemon()
    cloud.start_daemon()
    ended = []

    def end():
        if not ended:
            ended.append(True)
            lab.shell(f"sed -i '/vhost_net/d' {CONFIGURATION}")
            cloud.kill_daemon()
            cloud.start_daemon()

    yield end
    end()


def carriers(lab) -> list[int]:
    """What each of the kernel's threads that carry packets has done so far, in ticks of the processor (proc_pid_stat(5))."""
    lines = lab.shell("cat /proc/[0-9]*/task/*/stat 2> /dev/null | grep '(vhost-' || true").splitlines()
    return [sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in lines]


def carry_both_ways(instance):
    """As many bytes to the guest, and back."""
    sent = base64.b64encode(os.urandom(BYTES)).decode()
    words = ["ssh", instance.id, "-i", str(instance.key_file), "--", "tee /tmp/sent | sha256sum; cat /tmp/sent"]
    done = instance.cloud.cumulet(*words, stdin=sent)
    assert done.returncode == 0, done.stderr
    digest, _, back = done.stdout.partition("\n")
    assert digest.split()[0] == hashlib.sha256(sent.encode()).hexdigest()
    assert back == sent


def test_the_host_carries_packets_as_long_as_nobody_counts_them(by_the_host, launch, ec2, lab):
    before = len(carriers(lab))
    instance = launch(InstanceType=instance_type("nano", several=True))
    instance.ssh("true")
    # One for each pair of queues, and so for each processor. That they are there says nothing: they must have work.
    idle = carriers(lab)
    assert len(idle) - before == int(instance.ssh("nproc"))
    carry_both_ways(instance)
    assert sum(carriers(lab)) > sum(idle)
    packets = instance.ssh("cd /sys/class/net/eth0/statistics && cat rx_packets tx_packets").split()
    assert min(map(int, packets)) > PLACES * int(instance.ssh("nproc")), packets
    boot = instance.ssh(BOOT)
    ec2.reboot_instances(InstanceIds=[instance.id])
    instance.until(lambda: instance.try_ssh(BOOT) not in ("", boot), "it did not come back")
    carry_both_ways(instance)
    # Now its type's bandwidth holds: the machine takes its rings back while they are in use.
    by_the_host()
    carry_both_ways(instance)
    idle = carriers(lab)
    carry_both_ways(instance)
    assert carriers(lab) == idle
