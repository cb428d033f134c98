"""Power, as users, guests and accidents switch it: what is kept, what is told apart, what comes back."""

import time
from base64 import b64encode

import pytest

from cloud import instance_type
from lab import ARCH

METADATA = "http://169.254.169.254/latest/meta-data"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def addresses(instance) -> tuple[str, str]:
    known = instance.describe()
    return known["PrivateIpAddress"], known["PublicIpAddress"]


def monitor(lab, instance) -> str:
    """The process ids of an instance's monitor."""
    return lab.shell(f"cat /sys/fs/cgroup/cumulet/{instance.id}/cgroup.procs").strip()


def wait_for_another_boot(instance, before: str) -> str:
    """Until another boot of it than `before` answers; its id."""
    after = []

    def booted() -> bool:
        after[:] = [instance.try_ssh(BOOT_ID).strip()]
        return after[0] not in ("", before)

    instance.until(booted, "it was not booted again")
    return after[0]


def test_stop_and_start_keep_the_disk_and_the_private_address(launch, ec2):
    instance = launch()
    instance.ssh("echo kept > /home/admin/note && sync")
    private, public = addresses(instance)
    ec2.stop_instances(InstanceIds=[instance.id])
    instance.wait_for_state("stopped")
    assert "tiny: power button" in instance.console()
    assert "PublicIpAddress" not in instance.describe()
    ec2.start_instances(InstanceIds=[instance.id])
    instance.wait_for_state("running")
    assert instance.ssh("cat /home/admin/note").strip() == "kept"
    assert addresses(instance)[0] == private and addresses(instance)[1] != public


def test_a_reboot_keeps_both_addresses_and_the_process(launch, ec2, lab):
    instance = launch()
    boot, kept, process = instance.ssh(BOOT_ID).strip(), addresses(instance), monitor(lab, instance)
    ec2.reboot_instances(InstanceIds=[instance.id])
    again = wait_for_another_boot(instance, boot)
    assert "tiny: power button" in instance.console()
    # The guest's own reboot is no other.
    instance.try_ssh("sh -c 'sleep 1; reboot' > /dev/null 2>&1 &")
    wait_for_another_boot(instance, again)
    assert (addresses(instance), monitor(lab, instance)) == (kept, process)
    assert instance.state() == "running"


def test_a_guests_own_power_off_stops_or_terminates_it_as_was_said(launch):
    stops, terminates = launch(), launch(InstanceInitiatedShutdownBehavior="terminate")
    for one in (stops, terminates):
        one.ssh("sh -c 'sleep 1; poweroff' > /dev/null 2>&1 &")
    stops.wait_for_state("stopped")
    assert "reboot: Power down" in stops.console()
    assert stops.describe()["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    terminates.wait_for_state("terminated")


def test_a_killed_monitor_is_seen_and_started_again(launch, lab, cloud):
    instance = launch()
    boot, kept, process = instance.ssh(BOOT_ID).strip(), addresses(instance), monitor(lab, instance)
    lab.shell(f"kill -KILL {process}")
    wait_for_another_boot(instance, boot)
    assert addresses(instance) == kept
    assert monitor(lab, instance) != process
    assert instance.id in "".join(line for line in cloud.daemon_says().splitlines() if "lost" in line.lower())


@pytest.mark.skipif(ARCH == "aarch64", reason="Debian's cloud kernel for arm64 has no driver for pvpanic; test_kernel.py has the same")
def test_a_panic_fails_the_status_check_and_nothing_else(launch):
    instance = launch()
    instance.until(lambda: instance.status_check() == "ok", "its status check did not pass")
    instance.panic()
    instance.until(lambda: instance.status_check() == "impaired", "the panic was not seen")
    assert instance.state() == "running"
    assert "Kernel panic" in instance.console()


def test_a_type_is_what_it_says(launch):
    instance = launch(InstanceType=instance_type("small", several=True))
    cpus, kibibytes = instance.ssh("nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo").split()
    assert cpus == "2"
    # The guest's kernel keeps a little for itself.
    assert 1.8 < int(kibibytes) / 1024**2 <= 2


def test_many_at_once(launch, ec2):
    first = launch(MinCount=3, MaxCount=3)
    [reservation] = ec2.describe_instances(Filters=[{"Name": "reservation-id", "Values": [first.reservation()]}])["Reservations"]
    everyone = [first.sibling(one["InstanceId"]) for one in reservation["Instances"]]
    assert {one.ssh("cat /var/lib/tiny/instance-id").strip() for one in everyone} == {one.id for one in everyone}
    assert len({one.private_address() for one in everyone}) == 3


# Asks for an id and a lease, again and again, and writes down what it got.
ASKING = """
while sleep 1; do
    id=$(timeout 10 wget -q -O - METADATA/instance-id)
    lease=$(udhcpc -i eth0 -n -q -t 3 -T 3 -s /bin/true 2>&1 | grep -c 'lease of')
    echo "$id $lease"
done
""".replace("METADATA", METADATA)


def test_a_crash_of_the_daemon_takes_nothing_from_guests(launch, cloud, lab):
    instance = launch()
    before = instance.ssh(BOOT_ID)
    instance.ssh(f"cd; echo {b64encode(ASKING.encode()).decode()} | base64 -d > asking; sh asking > answers 2>&1 < /dev/null &")
    answering = lab.shell("cat /sys/fs/cgroup/cumulet/guests/cgroup.procs").strip()
    cloud.kill_daemon()
    time.sleep(20)
    cloud.start_daemon()
    assert instance.state() == "running"
    assert instance.ssh(BOOT_ID) == before
    # Who was not answered at any moment would have written that down.
    answers = instance.ssh("cat answers").splitlines()
    assert len(answers) > 3 and set(answers) == {f"{instance.id} 1"}, answers

    assert lab.shell("cat /sys/fs/cgroup/cumulet/guests/cgroup.procs").strip() == answering
    lab.shell(f"kill -KILL {answering}")
    instance.until(lambda: instance.ssh(f"timeout 10 wget -q -O - {METADATA}/instance-id || true") == instance.id, "it was not healed")
    assert lab.shell("cat /sys/fs/cgroup/cumulet/guests/cgroup.procs").strip() not in ("", answering)


def test_teardown_takes_all_away_and_a_new_daemon_brings_it_back(launch, cloud, lab):
    instance = launch()
    instance.ssh("echo kept > /home/admin/note && sync")
    boot = instance.ssh(BOOT_ID).strip()
    cloud.kill_daemon()
    cloud.teardown()
    left = lab.shell(
        "ip netns list; ip -br link; nft list tables; pgrep -a cumulet || true; ls /run/cumulet 2> /dev/null || true; "
        "find /sys/fs/cgroup -name '*cumulet*' -o -name 'i-*'"
    )
    assert "cu" not in "".join(word for word in left.split() if word.startswith(("cu", "i-"))), left
    cloud.start_daemon()
    wait_for_another_boot(instance, boot)
    assert instance.ssh("cat /home/admin/note").strip() == "kept"
