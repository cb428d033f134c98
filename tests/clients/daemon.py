"""A cumuletd with the simulated host, and clients of it."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import boto3
from botocore.config import Config

READY = 10
"""Seconds within which the daemon must answer. It needs a fraction of one."""


class Daemon:
    """One daemon. Its state folder may outlive it, so that another can go on with it."""

    def __init__(self, folder: pathlib.Path, settings: str = ""):
        self.state = folder / "state"
        self.config = folder / "cumuletd.toml"
        self.config.write_text(settings)
        self.log = folder / "log"
        self.port = free_port()
        self.process = None

    def start(self):
        program = os.environ["CUMULETD"]
        listen = ["--listen", f"127.0.0.1:{self.port}", "--state", self.state, "--config", self.config]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([program, "--simulate", *listen], stdout=log, stderr=log)
        give_up = time.monotonic() + READY
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"{program} does not answer:\n{self.log.read_text()}")
            time.sleep(0.01)
        self.client = json.loads((self.state / "client.json").read_text())

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return (self.state / "client.json").exists()

    def stop(self, how: signal.Signals = signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(READY)

    def boto(self, service: str = "ec2", **keys):
        """boto3's client. It neither retries nor checks what it sends, so that every answer is the daemon's own."""
        keys = {
            "aws_access_key_id": self.client["access_key_id"],
            "aws_secret_access_key": self.client["secret_access_key"],
        } | keys
        return boto3.client(
            service,
            endpoint_url=self.client["endpoint"],
            region_name=self.client["region"],
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
            **keys,
        )

    def aws(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Runs the aws CLI as `cumulet env` lets a user run it."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.state),
            "AWS_ENDPOINT_URL": self.client["endpoint"],
            "AWS_REGION": self.client["region"],
            "AWS_DEFAULT_REGION": self.client["region"],
            "AWS_ACCESS_KEY_ID": self.client["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.client["secret_access_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }
        aws = pathlib.Path(sys.executable).with_name("aws")
        done = subprocess.run([aws, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
