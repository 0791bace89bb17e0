"""The local Ray session: shut to others; hot copies shared and never written to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from listening import LISTENING, refuse_open

pytestmark = pytest.mark.cluster

SHARING = (
    LISTENING
    + """
import json, sys
from pathlib import Path
import numpy as np, ray, torch
from raydisc.runtime.session import ray_session
from raydisc.runtime.hot_store import HotCopies, hot_store
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.files import tensor_blob
from raydisc.tensors.views import tensor_views
from raydisc.stages.store import ArtifactStore

storage = Path(sys.argv[1])
with ray_session():
    weights = {"w": torch.arange(2**20, dtype=torch.float32)}
    artifact = ArtifactStore(storage).commit(Artifact("k" * 64, "distil"), {}, Cost(), {"w": tensor_blob(weights)})
    copies = HotCopies.remote(str(storage), 2**30)

    @ray.remote(num_cpus=0)
    class Reader:
        def __init__(self):
            self.store = hot_store(storage, copies)
        def total(self):
            return float(tensor_views(self.store.blob(artifact, "w"))["w"].double().sum())
        def mapped(self):
            address = self.store.blob(artifact, "w").ctypes.data
            for line in open("/proc/self/maps"):
                low, high = (int(x, 16) for x in line.split()[0].split("-"))
                if low <= address < high:
                    return line.split()[5]
        def writeable(self):
            return bool(self.store.blob(artifact, "w").flags.writeable)

    *readers, late = [Reader.remote() for _ in range(3)]
    said = {
        "totals": ray.get([r.total.remote() for r in readers]),
        "mapped": ray.get([r.mapped.remote() for r in readers]),
        "writeable": ray.get([r.writeable.remote() for r in readers]),
    }
    ray.kill(copies, no_restart=False)
    said["after the owner died"] = ray.get(late.total.remote())
    ray.kill(copies, no_restart=True)
    said["without an owner"] = ray.get(late.total.remote())
    said["listening"] = listening()
print(json.dumps(said))
"""
)
"""It imports Ray before the session, though Ray reads its settings when it is imported."""


def test_a_session_is_shut_and_its_hot_copies_are_one_shared_mapping_that_outlives_its_owner(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", SHARING, str(tmp_path / "storage")], env=environment, capture_output=True, text=True,
        timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    total = float(sum(range(2**20)))
    assert said["totals"] == [total, total]
    assert all(mapped.startswith("/dev/shm/") for mapped in said["mapped"]), said["mapped"]
    assert said["writeable"] == [False, False]
    assert said["after the owner died"] == said["without an owner"] == total
    refuse_open(said["listening"])
    assert not (tmp_path / "home" / ".ray").exists()
