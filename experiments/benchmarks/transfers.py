"""What keeping and reading an artifact's file costs: by processes on one node, and on another one."""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Parser, Row, finish, run, storage_of
from machine import Spread, private_bytes
from raylets import nodes, object_store_bytes

from raydisc.errors import InputError
from raydisc.report.table import Sheet
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.store import ArtifactStore

NAME = "transfers"

ABOUT = """\
A file of an artifact is written to the storage, put into the object store by the artifact store's actor, and read by
several processes at once, on the actor's node and on another one (both on this machine, so that the network is its
loopback): seconds, CPU seconds, private memory, and how many copies of the file there are in memory."""

EXAMPLES = """\
  python experiments/benchmarks/transfers.py
  python experiments/benchmarks/transfers.py --megabytes 100 1000 --readers 4 --repetitions 3"""

FILE = "model.safetensors"
PAGE = mmap.PAGESIZE


class Reader:
    """A process that reads files of artifacts as a trial does."""

    def ready(self) -> bool:
        """Whether it has begun, its imports done."""
        import raydisc.runtime.hot_store  # noqa: F401

        return True

    def read(self, storage: str, copies: Any, artifact: Artifact) -> Row:
        """Read every page of the file."""
        from raydisc.runtime.hot_store import hot_store

        before, begun, cpu = private_bytes(), time.perf_counter(), time.process_time()
        image = hot_store(Path(storage), copies).blob(artifact, FILE)
        had, had_cpu = time.perf_counter() - begun, time.process_time() - cpu
        touched = int(image[::PAGE].sum())
        return {
            "seconds": had, "cpu_seconds": had_cpu, "touch_seconds": time.perf_counter() - begun - had,
            "private_bytes": private_bytes() - before, "pages_sum": touched, "in_file": isinstance(image, np.memmap),
        }  # fmt: skip


def kept(store: ArtifactStore, megabytes: int, repetition: int) -> tuple[Artifact, Row]:
    """Write an artifact of one file, as a stage does."""
    content = np.random.default_rng(repetition).integers(0, 256, megabytes * 2**20, dtype=np.uint8)

    def write(path: Path) -> None:
        content.tofile(path)

    promise = Artifact(f"{repetition:064x}", "distil", ())
    begun, cpu = time.perf_counter(), time.process_time()
    artifact = store.commit(promise, {}, Cost(), {FILE: write})
    return artifact, {
        "what": "write to the storage", "node": 0, "reader": 0, "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu, "touch_seconds": 0.0, "private_bytes": 0, "copies": 0.0,
    }  # fmt: skip


def transferred(storage: Path, megabytes: int, readers: int, repetition: int) -> list[Row]:
    """Write, put, and read on the first node and on the second; both need the resources ``node0`` and ``node1``."""
    import ray

    from raydisc.runtime.hot_store import HotCopies

    artifact, row = kept(ArtifactStore(storage), megabytes, repetition)
    rows, size = [row], megabytes * 2**20
    owner: Any = HotCopies
    copies = owner.options(resources={"node0": 0.001}).remote(str(storage), 4 * size)
    here, there = ([_reader(node) for _ in range(readers)] for node in ("node0", "node1"))
    try:
        ray.get([reader.ready.remote() for reader in (*here, *there)])
        ray.get(copies.stopping.remote())
        before = object_store_bytes()
        begun = time.perf_counter()
        references = ray.get(copies.reference.remote(artifact, FILE))
        put = time.perf_counter() - begun
        in_stores = object_store_bytes() - before
        rows.append({
            "what": "put", "node": 0, "reader": 0, "seconds": put, "cpu_seconds": 0.0, "touch_seconds": 0.0,
            "private_bytes": 0, "copies": in_stores / size,
        })  # fmt: skip
        for node, group in enumerate((here, there)):
            found = ray.get([reader.read.remote(str(storage), copies, artifact) for reader in group])
            assert not any(one.pop("in_file") for one in found), "the object store was too small"
            assert len({one.pop("pages_sum") for one in found}) == 1
            all_copies = (object_store_bytes() - before + sum(one["private_bytes"] for one in found)) / size
            rows += [
                {"what": "read", "node": node, "reader": number, "copies": all_copies, **one}
                for number, one in enumerate(found)
            ]
        del references
    finally:
        for process in (copies, *here, *there):
            ray.kill(process)
    return [row | {"megabytes": megabytes, "readers": readers, "repetition": repetition} for row in rows]


def _reader(node: str) -> Any:
    import ray

    actor: Any = ray.remote(num_cpus=0, resources={node: 0.001})(Reader)
    return actor.remote()


def sheet(rows: Sequence[Row]) -> Sheet:
    """Return the tables that are printed."""
    lines = []
    for megabytes, what, node in dict.fromkeys((row["megabytes"], row["what"], row["node"]) for row in rows):
        same = [row for row in rows if (row["megabytes"], row["what"], row["node"]) == (megabytes, what, node)]
        slowest: dict[int, float] = {}
        for row in same:
            slowest[row["repetition"]] = max(row["seconds"], slowest.get(row["repetition"], 0.0))
        lines.append([
            f"{megabytes} MiB", what, "first" if node == 0 else "second", Spread.of(list(slowest.values())).text(3),
            f"{megabytes / 1024 / Spread.of(list(slowest.values())).median:.2f}",
            Spread.of([row["cpu_seconds"] for row in same]).text(3),
            f"{Spread.of([row['private_bytes'] / 2**20 for row in same]).median:.1f}",
            f"{Spread.of([row['copies'] for row in same]).median:.2f}",
        ])  # fmt: skip
    columns = ["file", "<what", "<node", "s, the slowest", "GiB/s", "CPU s", "private MiB each", "copies in memory"]
    notes = [
        "Copies in memory: of both nodes' object stores and private to the readers, over the file's bytes; once the "
        "second node reads there is one on each. CPU of the reading process alone.",
    ]
    return Sheet(f"{rows[0]['readers']} readers on each node", columns, lines, notes=notes, keys=3)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("--megabytes", nargs="+", type=int, default=[100, 1000], help="of the file; default 100 1000")
    parser.add_argument("--readers", type=int, default=4, help="processes on each node (default 4)")
    parser.add_argument("--repetitions", type=int, default=3, help="of every size (default 3)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size.

    Raises:
        InputError: The options cannot work.
    """
    options = parse(arguments)
    private_bytes()  # refuses a system that does not say
    if min(options.megabytes) < 2:
        raise InputError("--megabytes: files of up to 1 MiB are never put into the object store; give at least 2")
    room = 2**27 + int(2.2 * max(options.megabytes)) * 2**20
    rows: list[Row] = []
    with storage_of(options) as storage:
        shape = [{"num_cpus": 1, "object_store_memory": room, "resources": {f"node{number}": 1}} for number in (0, 1)]
        with nodes(*shape):
            for repetition in range(options.repetitions):
                for megabytes in options.megabytes:
                    place = storage / f"{megabytes}-{repetition}"
                    rows += transferred(place, megabytes, options.readers, repetition)
                    shutil.rmtree(place)
                    print(f"{megabytes} MiB: {rows[-1]['seconds']:.2f} s on the second node", file=sys.stderr)
    finish(NAME, rows, [sheet(rows)], options)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(run(main))
