"""Teacher outputs in the object store: every trial on a node reads one copy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

READING = """
import json, os, sys
from pathlib import Path
import numpy as np, ray, torch
from raydisc.signals.cache import OutputsShape, OutputsWriter, read_outputs
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.logits import Logits
from raydisc.signals.source import CachedSignal
from raydisc.runtime.session import ray_session
from raydisc.runtime.hot_store import HotCopies, hot_store
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.store import ArtifactStore
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch

storage, rows, length = Path(sys.argv[1]), 256, 32
lengths = np.full(rows, length)
shape = OutputsShape(rows, rows * length, 6, 512, 2)
with OutputsWriter(storage, shape, "float16", lengths) as writer:
    for row in range(rows):
        hidden = torch.full((length, 6, 512), row).half()
        writer.put(np.array([row]), {Logits: torch.full((1, 2), float(row)), HiddenStates: hidden})

def moved(name):
    return lambda target: os.replace(storage / name, target)

artifact = ArtifactStore(storage).commit(
    Artifact("k" * 64, "teacher_outputs"), {}, Cost(), {name: moved(name) for name in shape.files}
)

with ray_session():
    copies = HotCopies.remote(str(storage), 2**30)
    small = HotCopies.remote(str(storage), 2**20)

    @ray.remote(num_cpus=0)
    class Reader:
        def dirty(self):
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "Private_Hugetlb")))
        def right(self, signal, start):
            some = np.arange(start, start + 8)
            ids = torch.zeros(8, length, dtype=torch.int64)
            kind = task_kind("classification")
            outputs = signal.outputs(Batch(ids, ids + 1, None, ids[:, 0], some, lengths[some], kind))
            return int((outputs.hidden[5][:, -1, 0] == torch.from_numpy(some)).sum())
        def read(self, place):
            store = hot_store(storage, small if place == "too large" else copies)
            read = store.map_blob if place == "disk" else store.blob
            self.kept = read_outputs({name: read(artifact, name) for name in shape.files})
            signal = CachedSignal(self.kept, lengths)
            self.right(signal, 0)  # what torch sets up once
            before = self.dirty()
            right = sum(self.right(signal, start) for start in range(0, rows, 8))
            address = self.kept[HiddenStates].data_ptr()
            for line in open("/proc/self/maps"):
                low, high = (int(x, 16) for x in line.split()[0].split("-"))
                if low <= address < high:
                    mapped = line.split()[5]
            return right, mapped, self.dirty() - before
        def copied(self):
            before = self.dirty()
            self.copy = self.kept[HiddenStates].clone()
            return self.dirty() - before

    said = {}
    for place in ("memory", "disk", "too large"):
        readers = [Reader.remote() for _ in range(2)]
        said[place] = ray.get([reader.read.remote(place) for reader in readers])
    said["copied"] = ray.get(readers[0].copied.remote())
    said["kib"] = shape.bytes // 1024
print(json.dumps(said))
"""


@pytest.mark.slow
def test_outputs_are_read_without_a_copy_of_ones_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READING, str(tmp_path / "storage")], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["kib"] > 48 * 1024
    for place, where in (("memory", "/dev/shm/"), ("disk", str(tmp_path)), ("too large", str(tmp_path))):
        for right, mapped, dirty in said[place]:
            assert right == 256
            assert mapped.startswith(where), (place, mapped)
            assert dirty < said["kib"] / 3, place  # some batches of a thirty-second each, until they are freed
    assert said["copied"] > 0.9 * said["kib"]  # the measure sees a copy
