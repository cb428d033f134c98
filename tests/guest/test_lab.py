"""The lab keeps its word: real KVM inside, true statuses, a state that survives."""

import subprocess

from lab import ARCH, CACHE, REPOSITORY, with_qemu


def once(*arguments: str) -> subprocess.CompletedProcess:
    """A lab for one command."""
    return subprocess.run([REPOSITORY / "scripts/lab", "run", "--arch", ARCH, *arguments], capture_output=True, text=True)


def test_it_has_what_a_cloud_needs(lab):
    said = lab.shell("ls /dev/kvm /dev/net/tun; cat /sys/fs/cgroup/cgroup.controllers; nft list tables; ip -br link show lo")
    assert "/dev/kvm" in said and "memory" in said and "pids" in said
    assert lab.trouble() == ""


@with_qemu
def test_the_probe_finds_kvm_usable_inside(lab):
    # Outside: fetching and unpacking takes an emulated machine minutes.
    subprocess.run([REPOSITORY / "scripts/probe", "--prepare"], check=True)
    # The limit is for real machines; this one is emulated, and others may compile beside it.
    assert lab.run("env", f"CUMULET_CACHE={CACHE}", "CUMULET_PROBE_SECONDS=240", "scripts/probe").strip() == "yes"


def test_status_and_streams_come_back(lab):
    done = lab.script("exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_arguments_arrive_as_they_were_given(lab):
    assert lab.run("printf", "%s|", "a b", "$HOME", "it's", "") == "a b|$HOME|it's||"


def test_a_kernel_panic_is_no_success():
    done = once("--", "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert done.returncode == 125
    assert "did not say how the command ended" in done.stderr


def test_results_come_back(tmp_path):
    done = once("--out", str(tmp_path), "--", "sh", "-c", "echo written inside > /out/note; exit 3")
    assert done.returncode == 3
    assert (tmp_path / "note").read_text() == "written inside\n"
