"""A head of a Ray cluster on loopback, with dashboard and token authentication, and users who submit to it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from desk import Desk

_TRIES = 4


@dataclass(frozen=True)
class Head:
    """A running one: the address of its dashboard, its own folder, its token."""

    address: str
    folder: Path
    token: str

    @property
    def access(self) -> dict[str, str]:
        """Environment variables of a client that is let in."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for: listen on loopback only
            "RAY_TMPDIR": str(self.folder),  # where `auto` looks, so that no other cluster is found
        }


@dataclass(frozen=True)
class Client(Desk):
    """A user's folder, and the command run there with these variables of Ray and no others."""

    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the command finds."""
        clean = {name: value for name, value in super().environment.items() if not name.startswith("RAY_")}
        return {**clean, **self.variables}


@contextmanager
def running_head(node_types: dict[str, Any] | None = None) -> Iterator[Head]:
    """Start a head; afterwards all its processes have ended and its folder is gone.

    Args:
        node_types: of an autoscaler, which starts nodes of these on this machine; None for a cluster without one.
    """
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short, as Ray's sockets lie below it
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(token := secrets.token_hex(32))
    port, dashboard, agent, client = free_ports(4)
    head = Head(f"http://127.0.0.1:{dashboard}", folder, token)
    options: dict[str, Any] = {
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "temp-dir": folder / "ray",
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {**clean_environment(), **head.access}
    if node_types is not None:
        (folder / "autoscaler.json").write_text(json.dumps(_growing(node_types, port)))
        command += ["--num-cpus=0", f"--autoscaling-config={folder / 'autoscaler.json'}"]
        environment |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    try:
        _start(command, environment, folder)
        yield head
    finally:
        _end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _growing(node_types: dict[str, Any], port: int) -> dict[str, Any]:
    """What Ray's autoscaler is to know of a cluster whose nodes are processes of this machine."""
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "growing", "max_workers": 4, "head_node_type": "ray.head.default", "idle_timeout_minutes": 5,
        "provider": {
            "type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}", "use_node_id_as_ip": True,
            "disable_node_updaters": True, "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0}, **node_types
        },
        "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [], "rsync_exclude": [],
        "rsync_filter": [], "file_mounts_sync_continuously": False, "upscaling_speed": 1.0,
        **{f"{name}_commands": [] for name in lists},
    }  # fmt: skip


def _start(command: list[str], environment: dict[str, str], folder: Path) -> None:
    """Start it, and again where a busy machine was too slow for the times that Ray gives its parts."""
    for _ in range(_TRIES):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        said = ""
        while line := process.stdout.readline():
            said += line
            if "Ray runtime started" in said:
                return
        _end_all(folder)
    raise AssertionError(f"ray start has failed {_TRIES} times: {said}")


def _end_all(folder: Path) -> None:
    """End every process that was given this folder, which belongs to this head alone."""
    started = told_of(folder / "token")
    for one in started:
        one.terminate()
    for one in psutil.wait_procs(started, timeout=10)[1]:
        one.kill()


def told_of(token: Path) -> list[psutil.Process]:
    """Every process that began with this token's path in its environment."""
    started = psutil.process_iter(["environ"])
    return [one for one in started if (one.info["environ"] or {}).get("RAY_AUTH_TOKEN_PATH") == str(token)]


def clean_environment() -> dict[str, str]:
    """Without another cluster, and without PYTHONPATH: a job brings its own raydisc."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
    return {
        **clean,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # a job's `python`
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",  # the machine may be full of others
        "RAY_agent_register_timeout_ms": "120000",  # or busy: a raylet ends if its agents need more than this
        "OMP_NUM_THREADS": "1",
    }


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
