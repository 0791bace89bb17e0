"""A Ray cluster of several nodes on this machine, whose nodes can be lost, join late, or all be killed at once."""

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from head import clean_environment, free_ports, told_of
from surviving import kill

SCRIPT = """
import sys
from ray.cluster_utils import Cluster

def added(cluster, tries=4):
    try:
        return cluster.add_node(num_cpus=1)
    except Exception:  # the machine may be too busy for the times that Ray gives a node
        if not tries:
            raise
        return added(cluster, tries - 1)

port = int(sys.argv[2])
dashboard = {"include_dashboard": bool(port), "dashboard_host": "127.0.0.1", "dashboard_port": port or None}
dashboard["dashboard_agent_listen_port"] = None  # any: another Ray on this machine may have the usual one
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(sys.argv[1]), **dashboard})
node = cluster.head_node
while True:
    print(cluster.address, node.all_processes["raylet"][0].process.pid, flush=True)
    if not sys.stdin.readline():
        break
    node = added(cluster)
"""


_TRIES = 4

_NOT_NICE = {"RAY_worker_niceness": "0"}
"""On a busy machine Ray's own setting leaves the trials to wait for everybody else."""


@dataclass(frozen=True)
class Nodes:
    """A running one: its folder with the token, its head's address and raylet, the process that adds nodes.

    The session folder, where Ray unpacks what travels with a job, is one for all nodes.
    """

    folder: Path
    address: str
    head: psutil.Process
    script: "subprocess.Popen[str]"
    dashboard: str

    @property
    def access(self) -> dict[str, str]:
        """Environment variables of a driver that joins."""
        return {**_told(self.folder), "RAY_ADDRESS": self.address}

    def add(self) -> psutil.Process:
        """Have a node with one CPU join; gives its raylet."""
        assert self.script.stdin is not None
        self.script.stdin.write("\n")
        self.script.stdin.flush()
        assert self.script.stdout is not None
        words = self.script.stdout.readline().split()
        assert words, self.script.communicate()[1]
        return psutil.Process(int(words[1]))

    def processes(self) -> list[psutil.Process]:
        """Everything of the cluster, and the drivers that have joined it."""
        return told_of(self.folder / "token")

    def lose(self, raylet: psutil.Process) -> None:
        """Kill a node: its raylet and all that it has started."""
        kill([raylet, *raylet.children(recursive=True)])

    def kill(self) -> None:
        """Kill all nodes at once, and leave the drivers to find out."""
        mine = [psutil.Process(self.script.pid), *psutil.Process(self.script.pid).children(recursive=True)]
        kill(mine)

    def kill_memory(self) -> None:
        """Kill the process of the head that knows of all nodes and actors (Ray's GCS), and no other."""
        mine = psutil.Process(self.script.pid).children(recursive=True)
        kill([it for it in mine if it.name().startswith("gcs_server")])


@contextmanager
def running_nodes(head_cpus: int = 1, dashboard: bool = False) -> Iterator[Nodes]:
    """Start a head; afterwards all processes of the cluster have ended and its folder is gone.

    Args:
        head_cpus: CPUs that the head is said to have.
        dashboard: Whether jobs can be submitted.
    """
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short, as Ray's sockets lie below it
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    try:
        yield _started(folder, head_cpus, free_ports(1)[0] if dashboard else 0)
    finally:
        kill(told_of(folder / "token"))
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, head_cpus: int, port: int) -> Nodes:
    """Start a head, and again where a busy machine was too slow for the times that Ray gives its parts."""
    said = ""
    for _ in range(_TRIES):
        script = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(head_cpus), str(port)],
            env={**clean_environment(), **_NOT_NICE, **_told(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert script.stdout is not None
        if words := script.stdout.readline().split():
            head = psutil.Process(int(words[1]))
            return Nodes(folder, words[0], head, script, f"http://127.0.0.1:{port}" if port else "")
        said = script.communicate()[1]
        kill(told_of(folder / "token"))
    raise AssertionError(f"a head could not be started {_TRIES} times: {said}")


def _told(folder: Path) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for: listen on loopback only
        "RAY_TMPDIR": str(folder),
    }
