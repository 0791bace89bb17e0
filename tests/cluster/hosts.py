"""Hosts of a Ray cluster, each with a network, a /dev/shm and a Ray folder of its own, whose cables can be pulled."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from head import Client, clean_environment, told_of
from surviving import kill, wait_for

_PORT = 6379

_IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "3000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_worker_niceness": "0",
}
"""A host that is cut off is given up after ten seconds, and gives itself up after twenty; Ray's own are minutes."""


def refusal() -> str | None:
    """Why this machine allows no such hosts; None where it does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are for root on Linux"
    if not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        return "network namespaces need iproute2 and util-linux"
    name = f"rd{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    bridged = subprocess.run(["ip", "-n", name, "link", "add", "br0", "type", "bridge"], capture_output=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return None if made.returncode == bridged.returncode == 0 else "this machine allows no network namespaces"


@dataclass(frozen=True)
class Host:
    """One: its address, and the process whose namespaces are its own."""

    address: str
    holder: "subprocess.Popen[bytes]"

    def command(self, words: list[str], folder: Path) -> list[str]:
        """The command that runs another on this host, in a folder."""
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "env", "-C", str(folder), *words]


@dataclass(frozen=True)
class Guest(Client):
    """A user whose commands run on a host."""

    host: Host | None = None

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start the command without waiting."""
        assert self.host is not None
        return subprocess.Popen(
            self.host.command([sys.executable, "-m", "raydisc.cli.main", *words], self.folder),
            env={**clean_environment(), "HOME": str(self.folder), "COLUMNS": "200", **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@dataclass
class Hosts:
    """Those of a cluster, joined by a switch; the first is its head, which runs no trials."""

    folder: Path
    name: str
    stack: ExitStack
    hosts: list[Host] = field(default_factory=list)

    @property
    def access(self) -> dict[str, str]:
        """Environment variables of Ray's processes, and of a driver on the head."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_TMPDIR": str(self.folder),
            **_IMPATIENT,
        }

    def user(self, folder: Path) -> Guest:
        """One of the head."""
        return Guest(folder, {**self.access, "RAY_ADDRESS": f"{self.hosts[0].address}:{_PORT}"}, self.hosts[0])

    def add(self) -> Host:
        """Have a host join: the head, or one with a CPU for trials."""
        host, first = self._plugged_in(), not self.hosts
        self.hosts.append(host)
        joins = [f"--address={self.hosts[0].address}:{_PORT}", "--num-cpus=1"]
        heads = ["--head", f"--port={_PORT}", f"--temp-dir={self.folder / 'ray'}", "--include-dashboard=false"]
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={host.address}"]
        words += [f"--object-store-memory={200 * 2**20}", *([*heads, "--num-cpus=0"] if first else joins)]
        log = self.folder / f"{len(self.hosts)}.log"
        with log.open("wb") as file:
            subprocess.Popen(
                host.command(words, self.folder), env={**clean_environment(), **self.access, "PYTHONPATH": str(_CODE)},
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        wait_for(lambda: "Ray runtime started" in log.read_text(), 120)
        return host

    def processes(self) -> list[psutil.Process]:
        """Everything of the cluster, and the drivers that have joined it."""
        return told_of(self.folder / "token")

    def _plugged_in(self) -> Host:
        number = len(self.hosts) + 1
        name, port = f"{self.name}h{number}", f"port{number}"
        _ip("netns", "add", name)
        self.stack.callback(_ip, "netns", "del", name)
        _ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", self.name)
        _ip("-n", self.name, "link", "set", port, "master", "br0", "up")
        _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", name, "link", "set", device, "up")
        (self.folder / "ray").mkdir(exist_ok=True)
        own = " && ".join(f"mount -t tmpfs tmpfs {place}" for place in (self.folder / "ray", "/dev/shm"))
        holder = subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "-m", "sh", "-c", f"{own} && echo && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        self.stack.callback(holder.kill)
        assert holder.stdout is not None
        assert holder.stdout.readline(), "no folders of its own"
        return Host(f"10.77.0.{number}", holder)

    def pull(self, host: Host) -> None:
        """Pull a host's cable, without a notice to anybody."""
        self._set(host, "down")

    def plug(self, host: Host) -> None:
        """Plug it in again."""
        self._set(host, "up")

    def _set(self, host: Host, how: str) -> None:
        _ip("-n", self.name, "link", "set", f"port{self.hosts.index(host) + 1}", how)


_CODE = Path(__file__).parents[2]


@contextmanager
def running_hosts() -> Iterator[Hosts]:
    """Start a head; afterwards all processes have ended, and the networks and the folder are gone."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short, as Ray's sockets lie below it
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        name = f"rd{secrets.token_hex(3)}"
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)
        _ip("-n", name, "link", "add", "br0", "type", "bridge")
        _ip("-n", name, "link", "set", "br0", "up")
        hosts = Hosts(folder, name, stack)
        stack.callback(lambda: kill(hosts.processes()))
        hosts.add()
        yield hosts


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
