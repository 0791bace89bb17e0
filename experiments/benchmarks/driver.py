"""What a run's driver takes for a trial and for a stage, beside an empty Ray Tune experiment."""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import EXPERIMENTS, PREPARED, Bench, Parser, Row, finish, run, storage_of, with_steps
from machine import Spread, resident_bytes
from raylets import nodes, object_store_bytes, resident_of

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError
from raydisc.report.ledger import Ledger
from raydisc.report.live.reporter import LiveReporter
from raydisc.report.table import Sheet
from raydisc.runtime.driver import run_experiment

NAME = "driver"

ABOUT = """\
Many queued trials of a trivial stage (one training step of a tiny student), one at a time, in turn with as many
trials of an empty Ray Tune experiment, whose function reports once: seconds and the driver's CPU seconds from one
trial's end to the next one's, and what the driver, the artifact store's actor and the object store hold at the end. A
trial of more stages goes through that many assistants. Then: how many results a second the driver takes in from
many trials that do nothing but report, and what it costs to wait for that many of them."""

EXAMPLES = """\
  python experiments/benchmarks/driver.py
  python experiments/benchmarks/driver.py --trials 500 --repetitions 1 --stages 1 --reporting"""

TRIVIAL = (
    "task.reviews={train: 48, validation: 20, test: 20, clauses: 2}",
    "task.max_length=32",
    "teacher.architecture={model_type: bert, hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 4, "
    "intermediate_size: 32, max_position_embeddings: 32, initializer_range: 0.2}",
    "teacher.finetune={epochs: 1.0e-9}",
    "grid.scales=[0.8, 0.6, 0.5, 0.25]",
    "grid.importance_rows=16",
    "student.scale=0.25",
    "controls=false",
    "resources.trials=1",
    "resources.cpus=1",
)
"""The quickstart made so small that nothing of a stage takes long but what surrounds it."""

PATH = (0.8, 0.6, 0.5)
"""Assistants of a trial of several stages: each is two, itself and its outputs."""


@dataclass
class Ends:
    """When each trial has ended: by the clock, and by the CPU time of this process."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def note(self) -> None:
        """One more has."""
        self.seconds.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def row(self) -> Row:
        """Per trial, from the first one's end on."""
        trials = len(self.seconds) - 1
        return {
            "trials": trials + 1, "seconds": (self.seconds[-1] - self.seconds[0]) / trials,
            "cpu_seconds": (self.cpu[-1] - self.cpu[0]) / trials, "whole_seconds": self.seconds[-1] - self.seconds[0],
        }  # fmt: skip


class Noting(LiveReporter):
    """A reporter that notes the ends of one schedule's trials."""

    def __init__(self, prefix: str) -> None:
        """Write to nowhere."""
        super().__init__(plain=True, file=io.StringIO())
        self.ends, self._prefix = Ends(), prefix
        self.held: Row = {}

    def finished(self, trial_id: str, label: str, message: str) -> None:
        """Note it, and what is held while the session still is."""
        super().finished(trial_id, label, message)
        if trial_id.startswith(self._prefix):
            self.ends.note()
            self.held = held()


def held() -> Row:
    """Return the memory that the driver, the artifact store's actor and the object store hold now."""
    return {
        "driver_bytes": resident_bytes(),
        "owner_bytes": resident_of("ray::HotCopies"),
        "store_bytes": object_store_bytes(),
    }


def once(config: dict[str, Any]) -> None:
    """Report, and do nothing else."""
    from ray import tune

    tune.report({"value": config["number"]})


def by_tune(trials: int) -> Row:
    """Run an empty experiment with this number of trials and the settings that a run has."""
    from ray import tune

    ends = Ends()

    class Noted(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            ends.note()

        def __getstate__(self) -> dict[str, Any]:
            return {}

    before = resident_bytes()
    with tempfile.TemporaryDirectory(prefix="raydisc-benchmark-") as folder:
        tune.Tuner(
            once,
            param_space={"number": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
            run_config=tune.RunConfig(name="empty", storage_path=folder, verbose=0, callbacks=[Noted()]),
        ).fit()
    return ends.row() | held() | {"way": "tune", "stages": 0, "stage_seconds": 0.0, "before_bytes": before}


def by_raydisc(bench: Bench, trials: int, stages: int) -> Row:
    """Run an experiment of these trials and stages; its storage has only the stages that all trials start from."""
    assistants = (stages - 1) // 2
    schedule = (
        ScheduleConfig.model_validate({"takd": {"path": list(PATH[:assistants])}})
        if assistants
        else ScheduleConfig.model_validate("kd")
    )
    section = with_steps(bench.experiment.distillation, 48, 1)
    # one seed more than is begun, so that the tests, which wait for all of them, are left out
    experiment = bench.experiment.model_copy(
        update={
            "name": "driver", "schedules": [schedule], "seeds": list(range(trials + 1)), "distillation": section,
            "storage": str(bench.storage), "budget": bench.experiment.budget.model_copy(update={"trials": trials}),
        }
    )  # fmt: skip
    reporter, before = Noting(schedule.name), resident_bytes()
    result = run_experiment(experiment, reporter)
    if result.failures:
        raise InputError(f"a trial failed: {result.failures[0]}")
    computed = Ledger(bench.storage / "ledger").rows("stages", run="driver", state="finished")
    own = [row["wall_seconds"] for row in computed if row["trial"].startswith(schedule.name)]
    return (
        reporter.ends.row()
        | reporter.held
        | {"way": "raydisc", "stages": stages, "stage_seconds": sum(own) / trials, "before_bytes": before}
    )


def by_reports(trials: int, seconds: float) -> Row:
    """Run trials at once that report without a pause: results a second, and the driver's CPU time of each."""
    from ray import tune

    ends = Ends()

    class Noted(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Row, **_: Any) -> None:
            if result.get("together"):
                ends.note()

        def __getstate__(self) -> dict[str, Any]:
            return {}

    def report(config: dict[str, Any]) -> None:
        begun = Path(config["folder"], "begun")
        begun.mkdir(exist_ok=True)
        (begun / str(config["number"])).touch()
        together, until = False, 0.0
        while not together or time.monotonic() < until:
            if not together and len(os.listdir(begun)) == trials:
                together, until = True, time.monotonic() + seconds
            tune.report({"together": together})

    with tempfile.TemporaryDirectory(prefix="raydisc-benchmark-") as folder:
        tune.Tuner(
            report,
            param_space={"number": tune.grid_search(list(range(trials))), "folder": folder},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(name="reports", storage_path=folder, verbose=0, callbacks=[Noted()]),
        ).fit()
    row = ends.row() | held() | {"way": "reports", "stages": 0, "stage_seconds": 0.0, "before_bytes": 0}
    return row | {"trials": trials}


def by_waiting(waited_for: int, times: int = 200) -> Row:
    """Measure the cost of learning which of many calls has ended, as Tune's driver does for every result."""
    import ray

    class Calls:
        async def never(self) -> None:
            import asyncio

            await asyncio.sleep(1e6)

        def done(self) -> int:
            return 0

    remote: Any = ray.remote(Calls)
    actor = remote.options(num_cpus=0, max_concurrency=waited_for + 1).remote()
    calls = [actor.never.remote() for _ in range(waited_for - 1)]
    done = ray.put(0)
    ends = Ends()
    ends.note()
    for _ in range(times):
        asked = [*calls, done]
        random.shuffle(asked)
        ray.wait(asked, num_returns=1, timeout=0.1)
        ends.note()
    ray.kill(actor)
    return ends.row() | held() | {
        "way": "ray.wait", "stages": 0, "stage_seconds": 0.0, "before_bytes": 0, "trials": waited_for
    }  # fmt: skip


def measured(bench: Bench, folder: Path, options: argparse.Namespace) -> list[Row]:
    """Every way in turn, so often as is asked for."""
    rows = []
    for repetition in range(options.repetitions):
        for stages in (0, *options.stages):
            fresh = bench.linked(folder / f"repetition-{repetition}-{stages}", PREPARED)
            row = by_raydisc(fresh, options.trials, stages) if stages else by_tune(options.trials)
            rows.append(row | {"repetition": repetition})
            print(f"{row['way']} {stages}: {row['seconds']:.3f} s a trial", file=sys.stderr)
    for trials in options.reporting:
        rows.append(by_reports(trials, options.report_seconds) | {"repetition": 0})
    for calls in options.waiting:
        rows.append(by_waiting(calls) | {"repetition": 0})
    return rows


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Return the tables that are printed."""
    lines, others = [], []
    for way, stages in dict.fromkeys((row["way"], row["stages"]) for row in rows if row["way"] in ("tune", "raydisc")):
        same = [row for row in rows if (row["way"], row["stages"]) == (way, stages)]

        def middle(name: str, unit: float = 1.0, digits: int = 3, same: list[Row] = same) -> str:
            return Spread.of([row[name] / unit for row in same]).text(digits)

        around = [row["seconds"] - row["stage_seconds"] for row in same]
        grown = [(row["driver_bytes"] - row["before_bytes"]) / 2**20 for row in same]
        lines.append([
            way, str(stages), middle("seconds"), middle("stage_seconds"), Spread.of(around).text(3),
            middle("cpu_seconds", 1e-3, 1), Spread.of(grown).text(0), middle("owner_bytes", 2**20, 0),
            middle("store_bytes", 2**20, 1),
        ])  # fmt: skip
    for row in rows:
        if row["way"] in ("reports", "ray.wait"):
            cells = [f"{1e3 * row['seconds']:.2f}", f"{1e3 * row['cpu_seconds']:.2f}", f"{1 / row['seconds']:.0f}"]
            others.append([row["way"], str(row["trials"]), *cells])
    columns = ["<way", "stages", "s a trial", "s in its stages", "s around them", "driver's CPU ms",
               "driver grew MiB", "store's actor MiB", "object store MiB"]  # fmt: skip
    found = [Sheet(f"{rows[0]['trials']} queued trials, one at a time", columns, lines, keys=2)] if lines else []
    if others:
        columns = ["<way", "trials", "ms each", "CPU ms each", "a second"]
        found.append(Sheet("results that the driver takes in, and its waiting", columns, others, keys=2))
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("--trials", type=int, default=40, help="queued (default 40)")
    parser.add_argument("--repetitions", type=int, default=3, help="of all ways (default 3)")
    parser.add_argument("--stages", nargs="*", type=int, default=[1, 5], choices=(1, 3, 5, 7),
                        help="of a trial; default 1 5")  # fmt: skip
    parser.add_argument("--reporting", nargs="*", type=int, default=[1, 4, 16],
                        help="trials that do nothing but report; default 1 4 16")  # fmt: skip
    parser.add_argument("--report-seconds", type=float, default=8.0, help="that they do so (default 8)")
    parser.add_argument("--waiting", nargs="*", type=int, default=[10, 100, 1000],
                        help="calls that are waited for; default 10 100 1000")  # fmt: skip
    return parser.parse_args(arguments)


def trivial(options: argparse.Namespace) -> Experiment:
    """Return the experiment whose stages take next to nothing."""
    return load_experiment(EXPERIMENTS / "quickstart.yaml", [*TRIVIAL, *options.overrides]).with_absolute_paths()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way.

    Raises:
        InputError: The options cannot work.
    """
    options = parse(arguments)
    if options.trials < 2:
        raise InputError("--trials: it takes two to measure from one's end to the next one's")
    slots = max([2, *options.reporting])
    with storage_of(options) as storage:
        bench = Bench.of(options, trivial(options), storage / "prepared")
        bench.outputs  # noqa: B018 - what every trial starts from
        with nodes({"num_cpus": slots, "object_store_memory": 2**28}):
            rows = measured(bench, storage, options)
    finish(NAME, rows, sheets(rows), options)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(run(main))
