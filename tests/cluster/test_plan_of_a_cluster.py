"""`raydisc plan --address`: the devices of a real cluster of two nodes, and what is said where there is none."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from desk import Desk

pytestmark = pytest.mark.cluster

NODES = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": int(sys.argv[1])})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
SHORT = ["--set", "schedules=[kd]", "--set", "grid.scales=[0.25]"]
NOWHERE = "127.0.0.1:9"


@contextmanager
def cluster(monkeypatch: pytest.MonkeyPatch, gpus: int) -> Iterator[str]:
    """A cluster on loopback, with a token and a folder of its own; gives its address."""
    folder = Path(tempfile.mkdtemp(prefix="raydisc-"))  # short: Ray's sockets lie in it
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(16))
    told = {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    words = [sys.executable, "-c", NODES, str(gpus)]
    nodes = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert nodes.stdout is not None
        address = nodes.stdout.readline().strip()
        assert address, nodes.communicate()[1]
        yield address
    finally:
        nodes.communicate(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_the_machines_of_a_cluster_are_planned_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(monkeypatch, gpus=0) as address:
        plan = desk.json("plan", "tiny.yaml", *SHORT, "--address", address, "--json")
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        refused = desk.run("plan", "tiny.yaml", *SHORT, "--address", address, code=2)
    devices = plan["devices"]
    assert (devices["kind"], devices["count"]) == ("cpu", 2)
    assert devices["name"] == "the cluster's 2 machine(s), without a GPU"
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < devices["memory"] <= physical
    assert plan["precision"] == "float32"
    assert {row["fit"]["replicate"] for row in plan["fits"]} == {2}
    assert f"no Ray cluster lets this process in at '{address}'" in refused
    assert "RAY_AUTH_TOKEN_PATH" in refused


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_cannot_be_asked_for_their_memory_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(monkeypatch, gpus=2) as address:
        refused = desk.run("plan", "tiny.yaml", *SHORT, "--address", address, code=2)
    assert "the cluster's GPUs: Ray has one to give, but torch sees none there" in refused


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (NOWHERE, "no Ray cluster lets this process in at '127.0.0.1:9' ([Errno 111] Connection refused)"),
        ("nonsense", "no Ray cluster lets this process in at 'nonsense' (Invalid address format: nonsense)"),
    ],
)
def test_where_there_is_no_cluster_one_sentence_says_so_soon(desk: Desk, address: str, sentence: str) -> None:
    begun = time.monotonic()
    said = desk.ask("plan", "tiny.yaml", "--address", address, code=2)
    assert said.count("\n") == 1
    assert sentence in said
    assert time.monotonic() - begun < 100, "Ray itself takes minutes"


def test_a_run_is_told_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", NOWHERE)
    assert "no Ray cluster lets this process in at '127.0.0.1:9'" in desk.ask("run", "tiny.yaml", code=2)
    assert not list(Path(desk.folder).glob("runs/artifacts/*"))
