"""What a further trial on a node costs in memory: trial processes that read one hot store.

Every trial is a Ray actor of its own that reads the teacher's weights, its outputs and the once-for-all weights, as a
search's trials do, then trains one step.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import PREPARED, Bench, Parser, Row, finish, of_rows, read_experiment, run, storage_of, untrained
from machine import Spread, private_bytes
from pieces import run_once_for_all, run_student

from raydisc.report.table import Sheet
from raydisc.runs.machine import bound_threads
from raydisc.runtime.session import ray_session
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.logits import Logits
from raydisc.stages.artifact import Artifact

NAME = "store"

ABOUT = """\
Several trial processes at once on this machine, each reading the teacher's weights, its outputs and the once-for-all
weights from the hot store: private memory of a trial beyond its imports as a share of the bytes that all share (at
most 5% is the goal), and seconds until a trial's first training step. Linux only."""

EXAMPLES = """\
  python experiments/benchmarks/store.py
  python experiments/benchmarks/store.py --trials 1 2 --train sst2/train.parquet --validation sst2/validation.parquet"""

PAGE = 4096


class Reader:
    """One trial's process.

    Args:
        number: The number of the trial.
        called_at: The time at which it was asked for, in seconds since the epoch.
    """

    def __init__(self, number: int, called_at: float) -> None:
        """Import what a trial imports, and note the memory that takes."""
        import raydisc.runtime.trainable  # noqa: F401

        self._number, self._called_at = number, called_at
        self._held: list[Any] = []

    def read(self, bench: Bench, copies: Any, supernet: Artifact) -> Row:
        """Read everything that is shared, then train a step; gives the memory and the seconds."""
        from transformers import AutoModelForSequenceClassification

        from raydisc.models.build import config_from_dict
        from raydisc.runtime.hot_store import hot_store

        bound_threads(bench.threads)
        with torch.device("meta"):  # the family's module is imported, no memory is taken
            AutoModelForSequenceClassification.from_config(config_from_dict(bench.subject.config))
        bench = replace(bench, hot=hot_store(bench.storage, copies))
        bench.ready, bench.outputs  # noqa: B018 - the small files of the artifacts, found by their keys
        imported, before = time.time(), _settled_private_bytes()
        self._held = [bench.store.blob(artifact, name) for artifact, name in shared_files(bench, supernet)]
        touched = sum(int(image[::PAGE].sum()) for image in self._held)
        seconds_to_read, reading = time.time() - imported, _settled_private_bytes() - before
        first: list[float] = []
        run_student(bench, bench.student_scale, 1, _on_first(first), seed=self._number)
        return {
            "trial": self._number, "shared_bytes": sum(image.nbytes for image in self._held), "pages_sum": touched,
            "imports_bytes": before, "private_bytes": reading, "after_step_bytes": private_bytes() - before,
            "start_seconds": imported - self._called_at, "read_seconds": seconds_to_read,
            "first_step_seconds": first[0] - self._called_at,
        }  # fmt: skip


def _on_first(first: list[float]) -> Callable[[int], None]:
    def tick(step: int) -> None:
        if step == 1:
            first.append(time.time())

    return tick


def _settled_private_bytes() -> int:
    gc.collect()
    return private_bytes()


def shared_files(bench: Bench, supernet: Artifact) -> Iterator[tuple[Artifact, str]]:
    """Return the files that all trials of a search read."""
    yield bench.ready.importance, "model.safetensors"  # the teacher, its units sorted
    yield bench.outputs, Logits.file
    yield bench.outputs, HiddenStates.file
    yield supernet, "model.safetensors"


def measure(bench: Bench, supernet: Artifact, trials: int) -> list[Row]:
    """Run trials at once and return the line of each; this needs a Ray session."""
    import ray

    from raydisc.runtime.hot_store import HotCopies

    owner: Any = HotCopies
    sizes = [bench.store.path(*file).stat().st_size for file in shared_files(bench, supernet)]
    copies = owner.remote(str(bench.storage), 2 * sum(sizes))
    actor: Any = ray.remote(num_cpus=0)(Reader)
    readers = [actor.remote(number, time.time()) for number in range(trials)]
    try:
        rows: list[Row] = ray.get([reader.read.remote(bench, copies, supernet) for reader in readers])
    finally:
        for process in (*readers, copies):
            ray.kill(process)
    return [row | {"trials": trials, "private_share": row["private_bytes"] / row["shared_bytes"]} for row in rows]


def sheet(rows: Sequence[Row]) -> Sheet:
    """Return the tables that are printed."""
    lines = []
    for trials in dict.fromkeys(row["trials"] for row in rows):
        same = [row for row in rows if row["trials"] == trials]

        def spread(name: str, unit: float = 1.0, same: list[Row] = same) -> Spread:
            return Spread.of([row[name] / unit for row in same])

        lines.append([
            str(trials), f"{spread('imports_bytes', 2**20).median:.0f}", f"{spread('private_bytes', 2**20).median:.1f}",
            f"{spread('private_share').median:.1%}", f"{spread('after_step_bytes', 2**20).median:.0f}",
            f"{spread('start_seconds').median:.1f}", f"{spread('read_seconds').median:.2f}",
            f"{spread('first_step_seconds').median:.1f}", f"{max(row['first_step_seconds'] for row in same):.1f}",
        ])  # fmt: skip
    columns = ["trials", "imports MiB", "private MiB", "of shared", "after a step MiB", "start s", "read s",
               "first step s", "slowest s"]  # fmt: skip
    title = f"hot store: {rows[0]['shared_bytes'] / 2**20:,.0f} MiB shared by all trials"
    notes = [
        "Medians over the trials. Private: what reading everything adds to a process's own memory; after a step: what "
        "reading and training a student add.",
    ]
    return Sheet(title, columns, lines, notes=notes)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_experiment()
    parser.add_argument(
        "--trials", nargs="+", type=int, default=[1, 2, 4, 8], help="processes at once; default 1 2 4 8"
    )
    parser.add_argument("--rows", type=int, default=12000, help="training rows that are used (default 12000)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every number of trials.

    Raises:
        InputError: The options or the experiment cannot work.
    """
    options = parse(arguments)
    private_bytes()  # refuses a system that does not say, before anything is computed
    experiment = of_rows(untrained(read_experiment(options)), options.rows)
    rows: list[Row] = []
    with storage_of(options) as storage:
        bench = Bench.of(options, experiment, storage)
        supernet = run_once_for_all(bench, 1.0, 1, lambda step: None)
        with ray_session():
            for trials in options.trials:
                fresh = Path(storage / f"trials-{trials}")
                linked = bench.linked(fresh, PREPARED, supernet)
                rows += measure(linked, supernet, trials)
                print(f"{trials} trials: {rows[-1]['private_share']:.1%} of the shared bytes", file=sys.stderr)
    finish(NAME, rows, [sheet(rows)], options)


if __name__ == "__main__":
    sys.exit(run(main))
