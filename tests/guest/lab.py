"""The lab as an object: scripts/lab, driven from outside.

`python` never runs inside: interpreters are slow under emulation. What must happen inside is a command.
"""

import os
import platform
import re
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# What the lab is, and what its programs and guests are built for.
ARCH = os.environ.get("CUMULET_TEST_ARCH", platform.machine())
IS_OURS = ARCH == platform.machine()
CACHE = Path(os.environ.get("CUMULET_CACHE", REPOSITORY / ".cache")).resolve()
# How much longer than in a lab of this machine's own architecture everything may take: another's is emulated instruction by
# instruction, and so is what runs in it. All limits of time are multiplied by it.
SLOWNESS = 1 if IS_OURS else 4
# Outside's seconds: emulation is some twenty times slower than a machine, and others may compile beside it.
PATIENCE = 300
# Who runs tests beside others (pytest-xdist) has a lab of its own.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
LAB_NAME = os.environ.get("CUMULET_TEST_LAB", "guest-tests" if IS_OURS else f"guest-tests-{ARCH}") + (WORKER and f"-{WORKER}")
# How many processors it has; scripts/lab's default where that is not said.
CPUS = os.environ.get("CUMULET_TEST_LAB_CPUS")
# What the emulated computer and the guests in it never say while the emulation is sound.
UNSOUND = re.compile(r"Kernel panic|BUG: |Oops|general protection fault|soft lockup|detected stalls")
# QEMU of this machine does not run in a lab of another architecture.
with_qemu = pytest.mark.skipif(not IS_OURS, reason=f"there is no QEMU inside a lab of {ARCH}")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lab:
    """One lab, by its name."""

    def __init__(self, name: str):
        self.name = name
        self.home = CACHE / "lab" / name

    def script(self, command: str, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Runs `scripts/lab COMMAND --name NAME ARGUMENTS…`; the caller looks at its status."""
        line = [REPOSITORY / "scripts/lab", command, "--name", self.name, *arguments]
        return subprocess.run(line, cwd=REPOSITORY, text=True, stdin=subprocess.DEVNULL, **options)

    def start(self, *options: str):
        """Boots it; an old one of this name is stopped before, its state forgotten."""
        self.stop()
        (self.home / "state.img").unlink(missing_ok=True)
        cpus = ["--cpus", CPUS] if CPUS else []
        self.script("start", "--arch", ARCH, *cpus, *options, check=True)

    def stop(self):
        """Powers it off, if it runs."""
        self.script("stop", check=True)

    def is_running(self) -> bool:
        """Whether its emulator is alive."""
        return self.script("status", capture_output=True).returncode == 0

    @contextmanager
    def watched(self):
        """Meanwhile its emulator is killed when what it emulates has come to a standstill: tests then fail at once and not when
        their patience is over."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=[over], daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, over: threading.Event):
        while not over.wait(10):
            # One word may be said of a moment in which this machine had other work.
            if len(UNSOUND.findall(self._console())) > 1 or not self._greets():
                self.script("kill", capture_output=True)
                return

    def _greets(self) -> bool:
        """Whether its ssh server says who it is, which takes it less than a login."""
        with suppress(OSError, ValueError):
            port = int((self.home / "ssh_port").read_text())
            with socket.create_connection(("127.0.0.1", port), 120 * SLOWNESS) as server:
                return server.recv(4) == b"SSH-"
        return False

    def trouble(self) -> str:
        """In what way the emulated computer itself is broken; nothing where it is not."""
        last = self._last(self.home / "qemu.log") or self._last(self.home / "console.log")
        if not self.is_running():
            return f"the lab ended: {last}"
        if found := UNSOUND.search(self._console()):
            return f"the lab's kernel said: {found[0]}"
        # A panic of a guest is a thing that guests do; a processor of theirs that stands still is not.
        stuck = self.script("exec", "--", "sh", "-c", "grep -l -a 'soft lockup' /var/lib/cumulet/logs/*.console", capture_output=True)
        return f"a guest's processor stands still: {stuck.stdout.strip()}" if stuck.stdout.strip() else ""

    def _console(self) -> str:
        return (self.home / "console.log").read_text(errors="replace")

    @staticmethod
    def _last(file: Path) -> str:
        lines = file.read_text(errors="replace").split("\n") if file.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def keep(self, name: str) -> Path:
        """What explains a failure, kept where the next run does not overwrite it; the folder."""
        folder = CACHE / "guest-tests" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.home / "out/logs", ignore_errors=True)
        if self.is_running():
            self.script("exec", "--", "sh", "-c", "cp -r /var/lib/cumulet/logs /out/", capture_output=True)
        for file in ["console.log", "qemu.log", "out/cumuletd.log"]:
            if (self.home / file).exists():
                shutil.copy(self.home / file, folder)
        if (self.home / "out/logs").exists():
            shutil.copytree(self.home / "out/logs", folder / "logs", dirs_exist_ok=True)
        return folder

    def run(self, *command: str, seconds: int = PATIENCE) -> str:
        """Runs a command inside; its output, or the failure with what it said."""
        done = self.script("exec", "--seconds", str(seconds * SLOWNESS), "--", *command, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(
                f"in the lab, {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def shell(self, script: str, seconds: int = PATIENCE) -> str:
        """The same for a line of shell."""
        return self.run("sh", "-euc", script, seconds=seconds)
