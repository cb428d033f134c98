"""Real guests through the EC2 API: they boot, know themselves, are reached by every way, and leave nothing."""

import subprocess
import time
import urllib.request

from cloud import PROGRAMS
from lab import SLOWNESS, free_port


def test_an_instance_boots_knows_itself_and_is_reached(instance):
    assert instance.ssh("cat /var/lib/tiny/instance-id").strip() == instance.id


def test_its_process_is_bounded_as_its_type_says(instance, cloud):
    instance.wait_for_state("running")
    files = "memory.max pids.max cpu.max cpu.weight io.max"
    memory, tasks, processors, weight, disk = cloud.lab.shell(f"cd /sys/fs/cgroup/cumulet/{instance.id} && cat {files}").splitlines()
    # A nano: two vCPUs, 512 MiB, EBS at most at 2,085 Mbit/s and 11,800 operations.
    assert (int(memory) >> 20, int(tasks), processors, weight) == (512 + 256, 2 + 128, "300000 100000", "200")
    assert disk.split(" ")[1:] == ["rbps=260625000", "wbps=260625000", "riops=11800", "wiops=11800"]


def test_user_data_runs_once_and_is_seen_on_the_console(launch, ec2):
    instance = launch(user_data="#!/bin/sh\necho user-data speaks for $(cat /var/lib/tiny/instance-id)")
    instance.wait_for_console(f"user-data speaks for {instance.id}")
    output = ec2.get_console_output(InstanceId=instance.id, Latest=True)["Output"]
    assert output.count(f"user-data speaks for {instance.id}") == 1


def test_its_page_comes_through_the_apis_port(instance, cloud):
    instance.wait_for_console("tiny: ready")
    port = free_port()
    words = [PROGRAMS / "cumulet", "--client", cloud.client_file, "forward", instance.id, f"{port}:80"]
    forward = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        page = wait_for_page(port)
    finally:
        forward.terminate()
        said = forward.communicate()[1]
    assert instance.id in page, said


def wait_for_page(port: int, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        except OSError:
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.3)


def test_the_serial_console_can_be_typed_into(instance, cloud):
    instance.wait_for_console("tiny: ready")
    words = [PROGRAMS / "cumulet", "--client", cloud.client_file, "console", instance.id]
    console = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        # Each line when the one before has been heard, as one who types does.
        for line, answer in (("admin\n", "/home/admin# "), ("echo typed $((6 * 7))\n", "typed 42")):
            console.stdin.write(line)
            console.stdin.flush()
            instance.wait_for_console(answer, 60)
        console.stdin.write("exit\n")
        console.stdin.flush()
    finally:
        console.terminate()
        heard = console.communicate()[0]
    assert "typed 42" in heard


def test_a_terminated_instance_leaves_nothing(launch, ec2, lab):
    instance = launch()
    instance.wait_for_state("running")
    [disk] = instance.describe()["BlockDeviceMappings"]
    ec2.terminate_instances(InstanceIds=[instance.id])
    instance.wait_for_state("terminated")
    # Its console's words are kept for an hour, as EC2 keeps them; the volumes' folder held nothing else.
    left = lab.shell(
        "ip netns list; ls /run/cumulet/machines; ls -d /sys/fs/cgroup/cumulet/i-* 2> /dev/null || true; "
        "ls /var/lib/cumulet/volumes; pgrep -a cumulet-vmm || true"
    )
    assert instance.id not in left and disk["Ebs"]["VolumeId"] not in left, left
