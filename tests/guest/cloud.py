"""A cloud of the tests' own: cumuletd and its machines in a lab, its clients out here.

The lab's port 8773 is forwarded to a free port of this machine's loopback; that port is the only way in. What the daemon
prints is in the lab's folder for results, readable from outside while it runs.
"""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

from lab import ARCH, REPOSITORY, SLOWNESS, Lab

# What runs out here, and what runs in the lab: the same, but where that is of another architecture.
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve() / "release"
LAB_PROGRAMS = Path(os.environ.get("CUMULET_TEST_PROGRAMS", PROGRAMS)).resolve()
PORT = 8773
STATE = "/var/lib/cumulet"
CONFIGURATION = f"{STATE}/cumuletd.toml"


def instance_type(size: str, several: bool = False) -> str:
    """The instance type of this size for the lab's architecture: with one processor if there is one such, since tests of such
    guests take a sixth less under emulation, or with `several`."""
    return {"x86_64": "t3" if several else "t2", "aarch64": "t4g"}[ARCH] + "." + size


class Cloud:
    """The daemon in its lab, and what clients need to reach it."""

    def __init__(self, lab: Lab, port: int):
        self.lab = lab
        self.port = port
        self.images: dict[str, str] = {}
        self.client_file = lab.home / "client.json"
        # A socket's path must be short.
        self.sockets = tempfile.TemporaryDirectory(prefix="ssh-")
        options = ["ControlMaster=auto", f"ControlPath={self.sockets.name}/%C", "ControlPersist=60", "ServerAliveInterval=10", "ServerAliveCountMax=9"]
        self.kept_connection = [word for option in options for word in ("-o", option)]
        self.log = lab.home / "out/cumuletd.log"

    def start(self):
        """Starts the daemon in the lab and learns its keys."""
        self.log.unlink(missing_ok=True)
        # Machines of one test end while those of the next begin.
        self.lab.shell(f"mkdir -p {STATE} && printf '[limits]\\nvcpus_per_processor = 16\\n' > {CONFIGURATION}")
        self.start_daemon()
        client = json.loads(self.lab.run("cat", f"{STATE}/client.json"))
        client["endpoint"] = f"http://127.0.0.1:{self.port}"
        self.client_file.write_text(json.dumps(client))
        self.client_file.chmod(0o600)

    def start_daemon(self, *options: str):
        """Starts cumuletd, detached, and waits until its port answers."""
        words = " ".join([str(LAB_PROGRAMS / "cumuletd"), "--config", CONFIGURATION, "--listen", f"10.0.2.15:{PORT}", *options])
        self.lab.shell(f"CUMULET_LOG=info setsid {words} >> /out/cumuletd.log 2>&1 < /dev/null & echo $! > /run/cumuletd.pid")
        self.wait_for_answer()

    def wait_for_answer(self, seconds: float = 120):
        """Until the port answers at all: a refusal of an unsigned request is an answer."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10)
                return
            except urllib.error.HTTPError:
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"cumuletd does not answer ({error}):\n{self.daemon_says()}") from error
            time.sleep(0.3)

    def kill_daemon(self):
        """The daemon ends as by a crash; its machines go on."""
        self.lab.shell("kill -KILL $(cat /run/cumuletd.pid)")

    def teardown(self):
        """Takes everything away, as after the daemon has ended."""
        self.lab.run(str(LAB_PROGRAMS / "cumuletd"), "teardown")

    def daemon_says(self) -> str:
        """The end of the daemon's log."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else "nothing"

    def ec2(self):
        """boto3's client, patient as emulation needs it, never retrying what failed."""
        client = json.loads(self.client_file.read_text())
        return boto3.client(
            "ec2",
            endpoint_url=client["endpoint"],
            region_name=client["region"],
            aws_access_key_id=client["access_key_id"],
            aws_secret_access_key=client["secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120 * SLOWNESS, connect_timeout=30),
        )

    def cumulet(self, *words: str, seconds: int = 600, stdin: str = "") -> subprocess.CompletedProcess:
        """The user's own tool, out here; the caller looks at its status."""
        line = [PROGRAMS / "cumulet", "--client", self.client_file, *words]
        return subprocess.run(line, text=True, capture_output=True, timeout=seconds * SLOWNESS, input=stdin)

    def image(self, name: str) -> str:
        """The id of one of our images; built and registered when it is asked for first."""
        if name not in self.images:
            self.images[name] = self._import_image(name)
        return self.images[name]

    def _import_image(self, name: str) -> str:
        disk = subprocess.run([REPOSITORY / "images/build", "--arch", ARCH, name], check=True, text=True, stdout=subprocess.PIPE)
        done = self.cumulet("image", "import", disk.stdout.strip(), "--name", name)
        assert done.returncode == 0, done.stderr
        return self.ec2().describe_images(Filters=[{"Name": "name", "Values": [name]}])["Images"][0]["ImageId"]


class Instance:
    """One instance, from the outside."""

    def __init__(self, cloud: Cloud, id: str, key_file: Path):
        self.cloud = cloud
        self.id = id
        self.key_file = key_file

    def describe(self) -> dict:
        """What DescribeInstances says of it."""
        return self.cloud.ec2().describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0]

    def state(self) -> str:
        """The name of its state."""
        return self.describe()["State"]["Name"]

    def wait_for_state(self, state: str, seconds: float = 180):
        """Until it is in this state."""
        self.until(lambda: self.state() == state, f"it did not become {state}", seconds)

    def console(self) -> str:
        """All its serial console said so far."""
        done = self.cloud.cumulet("console", self.id, "--log")
        return done.stdout if done.returncode == 0 else ""

    def wait_for_console(self, words: str, seconds: float = 300):
        """Until its console has said these words."""
        self.until(lambda: words in self.console(), f"it did not say {words!r}", seconds)

    def ssh(self, command: str, seconds: int = 600) -> str:
        """Runs a command on it as admin, through `cumulet ssh`; its output, or the failure with what it said.

        The connection is kept for the next command: an emulated guest takes seconds for each new one.
        """
        words = ["ssh", self.id, "-i", str(self.key_file)]
        done = self.cloud.cumulet(*words, *self.cloud.kept_connection, "--", command, seconds=seconds)
        if done.returncode == 255 and "mux_client" in done.stderr:
            # It was kept beyond its guest's end.
            done = self.cloud.cumulet(*words, "--", command, seconds=seconds)
        if done.returncode != 0:
            raise AssertionError(f"on {self.id}, {command!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def try_ssh(self, command: str, seconds: int = 20) -> str:
        """The same for an instance that may be down at the moment: no output where it cannot be reached."""
        words = ["ssh", self.id, "-i", str(self.key_file), "--wait", str(seconds * SLOWNESS), "-o", "ServerAliveInterval=2", "--", command]
        return self.cloud.cumulet(*words).stdout

    def panic(self):
        """Its kernel panics, and stays so."""
        self.try_ssh("sh -c 'sleep 1; sysctl kernel.panic=0; echo c > /proc/sysrq-trigger' > /dev/null 2>&1 &")

    def status_check(self) -> str:
        """What DescribeInstanceStatus says of it: `ok`, `impaired` …; nothing before it runs."""
        found = self.cloud.ec2().describe_instance_status(InstanceIds=[self.id])["InstanceStatuses"]
        return found[0]["InstanceStatus"]["Status"] if found else ""

    def private_address(self) -> str:
        """Its private IPv4 address."""
        return self.describe()["PrivateIpAddress"]

    def fetch(self, other: "Instance") -> str:
        """The other's page as this one sees it by the private address; nothing where no packet passes."""
        return self.ssh(f"timeout {4 * SLOWNESS} wget -q -O - http://{other.private_address()}/ || true")

    def pings(self, other: "Instance", source: str = "") -> bool:
        """Whether the other answers a ping."""
        option = f"-I {source}" if source else ""
        return "yes" in self.ssh(f"ping -q -c 2 -W {2 * SLOWNESS} {option} {other.private_address()} > /dev/null && echo yes || true")

    def metadata(self, path: str) -> str:
        """What the metadata service tells it, asked in version 1."""
        return self.ssh(f"wget -q -O - http://169.254.169.254/latest/meta-data/{path}")

    def metadata_token(self) -> str:
        """A token for version 2; busybox's wget has no PUT."""
        request = r"PUT /latest/api/token HTTP/1.0\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n"
        return self.ssh(f"printf '{request}' | nc -w 20 169.254.169.254 80").splitlines()[-1]

    def reservation(self) -> str:
        """The id of the reservation that it was launched in."""
        return self.cloud.ec2().describe_instances(InstanceIds=[self.id])["Reservations"][0]["ReservationId"]

    def sibling(self, id: str) -> "Instance":
        """Another instance with the same key."""
        return Instance(self.cloud, id, self.key_file)

    def until(self, condition, complaint: str, seconds: float = 180):
        """Asks again and again until the condition holds; a failure tells what its console said last."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.id}: {complaint} within {seconds} s; its console:\n{self.console()[-4000:]}")
            time.sleep(1)
