"""Sockets from the host into a guest (vsock): a machine started by hand, whose first process sends back what it hears."""

import os
import subprocess
from pathlib import Path

import pytest

from cloud import LAB_PROGRAMS
from lab import IS_OURS

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif("CUMULET_TEST_KERNEL" not in os.environ, reason="no kernel was built: scripts/test --only kernel"),
    pytest.mark.skipif(not IS_OURS, reason="the guest's program is compiled with this machine's C library"),
]

# Three callers at once send half a megabyte each and hear it again; then one asks for a port where nobody listens.
CALLERS = """
import socket, sys, threading
def call(port):
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(120)
    caller.connect(sys.argv[1])
    caller.sendall(b"CONNECT %d\\n" % port)
    return caller
def line(caller):
    said = b""
    while not said.endswith(b"\\n"):
        byte = caller.recv(1)
        if not byte: return said
        said += byte
    return said
def talk(mark):
    caller = call(7)
    assert line(caller).startswith(b"OK "), mark
    said = bytes([mark]) * (1 << 19)
    def send():
        caller.sendall(said)
        caller.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    heard = b""
    while part := caller.recv(1 << 16): heard += part
    sender.join()
    print("heard", mark, heard == said, flush=True)
talkers = [threading.Thread(target=talk, args=[mark]) for mark in (1, 2, 3)]
[talker.start() for talker in talkers]
[talker.join() for talker in talkers]
print("nobody", line(call(8)), flush=True)
"""


def entry(name: str, mode: int, content: bytes) -> bytes:
    """One entry of a RAM disk (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = [1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = ("070701" + "".join(f"{field:08x}" for field in fields) + name + "\0").encode()
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def test_a_program_at_the_host_reaches_one_in_the_guest(lab, tmp_path):
    program = tmp_path / "echo"
    source = Path(__file__).parent / "programs/echo.c"
    subprocess.run(["cc", "-O1", "-static", "-s", "-o", program, source], check=True)
    disk = entry("init", 0o100755, program.read_bytes()) + entry("TRAILER!!!", 0, b"")
    (lab.home / "out/echo.initrd").write_bytes(disk)
    (lab.home / "out/callers.py").write_text(CALLERS)
    machine = f"{LAB_PROGRAMS}/cumulet-vmm --kernel {os.environ['CUMULET_TEST_KERNEL']} --initrd /out/echo.initrd"
    lab.shell(f"rm -f /run/echo; setsid {machine} --cpus 2 --memory 128 --vsock /run/echo > /out/echo.log 2>&1 < /dev/null & echo $! > /run/echo.pid")
    try:
        lab.shell("until grep -q 'echo: listening' /out/echo.log; do kill -0 $(cat /run/echo.pid); sleep 0.2; done")
        heard = lab.run("python3", "-ISc", "exec(open('/out/callers.py').read())", "/run/echo")
        assert sorted(heard.splitlines()) == ["heard 1 True", "heard 2 True", "heard 3 True", "nobody b''"]
    finally:
        lab.shell("kill $(cat /run/echo.pid); cat /out/echo.log")
