"""The local Ray session: shut to others; hot copies shared and never written to."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

LISTENING = """
import json, os, psutil, sys
from raydisc.runtime.session import ray_session
if "early" in sys.argv:
    import ray
with ray_session():
    import ray
    pids = {os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))}
    bound = sorted({c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in pids})
    token = os.environ["RAY_AUTH_TOKEN_PATH"]
    said = {"bound": bound, "mode": os.stat(token).st_mode, "folder": os.stat(os.path.dirname(token)).st_mode,
            "pids": len(pids), "token": token}
with ray_session():
    import ray
    said["again"] = ray.is_initialized()
print(json.dumps(said))
"""


@pytest.mark.parametrize("when", ["late", "early"])
def test_a_local_session_listens_on_loopback_and_hides_its_token(tmp_path: Path, when: str) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, when], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["pids"] > 3
    assert {address.removeprefix("::ffff:") for address in said["bound"]} == {"127.0.0.1"}
    assert stat.S_IMODE(said["mode"]) == 0o600
    assert stat.S_IMODE(said["folder"]) == 0o700
    assert not Path(said["token"]).exists()
    assert not (tmp_path / ".ray").exists()
    assert said["again"]


SHARING = """
import hashlib, json, sys
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

    readers = [Reader.remote() for _ in range(2)]
    said = {
        "totals": ray.get([r.total.remote() for r in readers]),
        "mapped": ray.get([r.mapped.remote() for r in readers]),
        "writeable": ray.get([r.writeable.remote() for r in readers]),
    }
    ray.kill(copies, no_restart=False)
    said["after the owner died"] = ray.get(Reader.remote().total.remote())
    ray.kill(copies, no_restart=True)
    said["without an owner"] = ray.get(Reader.remote().total.remote())
print(json.dumps(said))
"""


def test_hot_copies_are_one_shared_mapping_and_outlive_their_owner(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHARING, str(tmp_path / "storage")], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    total = float(sum(range(2**20)))
    assert said["totals"] == [total, total]
    assert all(mapped.startswith("/dev/shm/") for mapped in said["mapped"]), said["mapped"]
    assert said["writeable"] == [False, False]
    assert said["after the owner died"] == said["without an owner"] == total
