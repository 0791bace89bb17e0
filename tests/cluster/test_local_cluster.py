"""`clusters/local.py`: nodes that only clients with the token are served by, and of which nothing is left."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from desk import said_until
from files import write_files
from head import Client
from nodes import running_nodes
from poison import poison, run_from

from raydisc.runtime.private_folder import PrivateFolder

pytestmark = pytest.mark.cluster
pytest.importorskip("aiohttp", reason="job submission needs ray[default]")

SCRIPT = Path(__file__).parents[2] / "clusters" / "local.py"

SUBMIT = """
import json, time
from ray.job_submission import JobStatus, JobSubmissionClient

client = JobSubmissionClient()
answers = {}
for name, entrypoint in {
    "echo": "echo served",
    "nodes": "python -c 'import ray; ray.init(log_to_driver=False); print(sum(n[\\"Alive\\"] for n in ray.nodes()))'",
}.items():
    while True:
        try:
            job = client.submit_job(entrypoint=entrypoint)
            break
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            time.sleep(1.0)
    while not client.get_job_status(job).is_terminal():
        time.sleep(0.2)
    answers[name] = [client.get_job_status(job).value, client.get_job_logs(job)]
print(json.dumps(answers))
"""

CONNECT = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print('nodes', len(ray.nodes()))"


@dataclass(frozen=True)
class LocalCluster:
    """A running one: what it exported, the address of its head, its folder with the token, its process."""

    exported: dict[str, str]
    head: str
    process: psutil.Process
    home: Path

    @property
    def folder(self) -> Path:
        return Path(self.exported["RAY_AUTH_TOKEN_PATH"]).parent

    def client(self, code: str, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run Python as a client that has nothing of the cluster but what is named."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**clean, "HOME": str(self.home), **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )

    def asked(self, token: str | None) -> int:
        """The status of a request for the list of jobs."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.exported["RAY_ADDRESS"] + "/api/jobs/", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def processes(self) -> list[psutil.Process]:
        """The script, all that it has started, and whatever else of Ray works in the cluster's folder."""
        found = {self.process.pid: self.process, **{one.pid: one for one in self.process.children(recursive=True)}}
        for one in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in one.info["cmdline"] or ()):
                found[one.pid] = one
        return list(found.values())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(home: Path, *words: str) -> "tuple[subprocess.Popen[str], LocalCluster]":
    """Start it in a folder of modules with the names of packages, which no process of Ray's may import."""
    poison(home)
    words = (sys.executable, str(SCRIPT), "--port", str(_free_port()), *words)
    process = subprocess.Popen(words, cwd=home, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    while "# stop it" not in said:
        line = process.stdout.readline()
        assert line, f"the script ended with {process.wait()}: {said}"
        said += line
    exported = dict(re.findall(r"^export (\w+)=(.*)$", said, re.MULTILINE))
    head = re.search(r"RAY_ADDRESS=(\S+) raydisc run", said)
    assert head is not None
    return process, LocalCluster(exported, head.group(1), psutil.Process(process.pid), home)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A head and two more nodes; afterwards nothing of them may be left."""
    process, running = _start(tmp_path_factory.mktemp("home"), "--nodes", "2")
    yield running
    _end(process, running)


def _end(process: "subprocess.Popen[str]", running: LocalCluster) -> None:
    started = running.processes()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=60)
    left = psutil.wait_procs(started, timeout=10)[1]
    assert (code, left, running.folder.exists()) == (0, [], False)
    assert len(started) > 10, "not all of the cluster's processes were looked at"
    assert run_from(running.home) == []


def test_the_folder_of_a_killed_one_goes_with_the_next_and_that_of_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(tempfile.mkdtemp(prefix="rd-"))
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    process, running = _start(tmp_path, "--nodes", "0")
    started = running.processes()
    try:
        PrivateFolder().remove()
        assert running.folder.parent == base
        assert (running.folder / "token").exists()
        process.kill()
        process.wait()
        PrivateFolder().remove()
        assert list(base.glob("raydisc-*")) == []
    finally:
        for one in psutil.wait_procs(started, timeout=20)[1]:  # Ray ends its own
            one.kill()
        shutil.rmtree(base)


def _token(cluster: LocalCluster) -> str:
    return (cluster.folder / "token").read_text()


def test_a_client_without_the_token_is_refused_by_job_submission(cluster: LocalCluster) -> None:
    assert cluster.asked(None) in (401, 403)
    assert cluster.asked("0" * 64) in (401, 403)


@pytest.mark.slow
def test_a_client_with_the_token_is_served_by_job_submission(cluster: LocalCluster) -> None:
    assert cluster.asked(_token(cluster)) == 200
    done = cluster.client(SUBMIT, **cluster.exported)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert answers["echo"][0] == answers["nodes"][0] == "SUCCEEDED", answers
    assert "served" in answers["echo"][1].splitlines()
    assert "3" in answers["nodes"][1].splitlines(), "the head and two more nodes are alive"


SUBMITTED = ("submit", "files.yaml", "--no-pip", "--wait")


def _submit(folder: Path, variables: dict[str, str]) -> None:
    """Have a user send an experiment with files of his own, and wait for its end."""
    folder.mkdir()
    write_files(folder)
    user = Client(folder, variables)
    assert "files: accuracy on data" in user.run(*SUBMITTED, "--storage", str(folder / "runs"))
    assert len(list((folder / "runs/files/students").iterdir())) == 1


def test_a_job_with_files_ends_well_on_two_nodes(cluster: LocalCluster, tmp_path: Path) -> None:
    _submit(tmp_path / "user", cluster.exported)


@pytest.mark.slow  # more nodes than in the test above
def test_a_job_with_files_ends_well_on_four_nodes(tmp_path: Path) -> None:
    process, cluster = _start(tmp_path, "--nodes", "4")
    try:
        _submit(tmp_path / "user", cluster.exported)
    finally:
        _end(process, cluster)


def test_a_job_with_files_ends_well_where_nodes_share_a_folder_and_one_comes_late(tmp_path: Path) -> None:
    """Each node unpacks what travels with the job there, the last while others are at work in it."""
    write_files(tmp_path)
    with running_nodes(dashboard=True) as nodes:
        nodes.add()
        user = Client(tmp_path, {**nodes.access, "RAY_ADDRESS": nodes.dashboard})
        waiting = user.start(*SUBMITTED, "--storage", str(tmp_path / "runs"))
        said = said_until(waiting, "finetune")
        nodes.add()
        _, rest = waiting.communicate(timeout=300)
        assert waiting.returncode == 0, said + rest


def test_a_driver_without_the_token_is_refused_and_one_with_it_joins(cluster: LocalCluster) -> None:
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    stranger = cluster.client(CONNECT, cluster.head, **loopback)
    assert stranger.returncode != 0
    assert "nodes" not in stranger.stdout
    assert "authentication" in stranger.stderr.lower() or "ConnectionError" in stranger.stderr
    path = cluster.exported["RAY_AUTH_TOKEN_PATH"]
    member = cluster.client(CONNECT, cluster.head, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=path, **loopback)
    assert (member.returncode, member.stdout.split()) == (0, ["nodes", "3"]), member.stderr


def test_everything_listens_on_loopback_only(cluster: LocalCluster) -> None:
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in cluster.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_the_token_is_its_users_alone(cluster: LocalCluster) -> None:
    token = cluster.folder / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
    said = "".join(word for process in cluster.processes() for word in process.cmdline())
    assert _token(cluster) not in said


def test_a_taken_port_is_named(cluster: LocalCluster) -> None:
    port = cluster.exported["RAY_ADDRESS"].rpartition(":")[2]
    refused = subprocess.run([sys.executable, str(SCRIPT), "--port", port], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert f"--port {port}" in refused.stderr
