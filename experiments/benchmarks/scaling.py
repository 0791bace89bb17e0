"""How trials fill a machine: measured from one worker to two, calculated beyond from the graph of a run's jobs."""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from common import (
    PREPARED,
    Bench,
    Parser,
    Row,
    finish,
    of_rows,
    read_experiment,
    run,
    storage_of,
    untrained,
    with_steps,
)
from machine import Spread
from makespan import measured_jobs, simulate
from pieces import run_student

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError
from raydisc.report.ledger import Ledger
from raydisc.report.live.reporter import LiveReporter
from raydisc.report.table import Sheet
from raydisc.runs.jobs import Job
from raydisc.runs.machine import bound_threads
from raydisc.runtime.driver import run_experiment
from raydisc.runtime.session import ray_session

NAME = "scaling"

ABOUT = """\
Throughput of independent trials, one thread each, with one worker and with two: (ray) as trials of `raydisc run`,
(bare) as plain processes without Ray, which is what the machine's memory bandwidth and clock allow. Beyond, a
calculation: the jobs of a run with their measured seconds, handed out to W workers as a run does, and the limit."""

EXAMPLES = """\
  python experiments/benchmarks/scaling.py
  python experiments/benchmarks/scaling.py --repetitions 0 --run quickstart --run-storage runs"""

RUN = "scaling"  # the name of the runs made here


@dataclass(frozen=True)
class Done:
    """A trial that has ended: when, in seconds since the epoch, and how long it took."""

    end: float
    seconds: float


def trials_per_second(done: Sequence[Done], workers: int) -> float:
    """Throughput while all workers are at work: neither the start of the last one nor the end of the first counts.

    Args:
        done: All trials.
        workers: The number of trials at the same time.

    Raises:
        InputError: They were never all at work together.
    """
    begin = sorted(trial.end - trial.seconds for trial in done)[workers - 1]
    end = sorted(trial.end for trial in done)[-workers]
    if end <= begin:
        raise InputError("--steps: the trials were over before all workers had begun; give more steps or trials")
    shares = [min(trial.end, end) - max(trial.end - trial.seconds, begin) for trial in done]
    return sum(max(0.0, share) / trial.seconds for share, trial in zip(shares, done, strict=True)) / (end - begin)


def by_ray(bench: Bench, workers: int) -> tuple[list[Done], float]:
    """Run the experiment's trials as ``raydisc run`` does; return them and the seconds of the whole run."""
    resources = bench.experiment.resources.model_copy(update={"trials": workers, "cpus": bench.threads})
    experiment = bench.experiment.model_copy(update={"storage": str(bench.storage), "resources": resources})
    begun = time.perf_counter()
    result = run_experiment(experiment, LiveReporter(plain=True, file=io.StringIO()))
    whole = time.perf_counter() - begun
    if result.failures:
        raise InputError(f"a trial failed: {result.failures[0]}")
    stages = Ledger(bench.storage / "ledger").rows("stages", run=experiment.name, kind="distil", state="finished")
    ends = [datetime.fromisoformat(stage["finished_at"]).timestamp() for stage in stages]
    return [Done(end, stage["wall_seconds"]) for end, stage in zip(ends, stages, strict=True)], whole


def by_processes(bench: Bench, workers: int, trials: int, steps: int) -> tuple[list[Done], float]:
    """Run the same trials in plain processes; return them and the seconds from the common start to the last end."""
    context = multiprocessing.get_context("spawn")
    barrier, ended = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=_work, args=(bench, range(number, trials, workers), steps, barrier, ended))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    done = [ended.get() for _ in range(trials)]
    for process in processes:
        process.join()
    begun = min(trial.end - trial.seconds for trial in done)
    return done, max(trial.end for trial in done) - begun


def _work(bench: Bench, seeds: Sequence[int], steps: int, barrier: Any, ended: Any) -> None:
    bound_threads(bench.threads)
    run_student(bench, bench.student_scale, 1, lambda step: None, seed=10_000 + seeds[0])  # imports, first touches
    barrier.wait()
    for seed in seeds:
        artifact = run_student(bench, bench.student_scale, steps, lambda step: None, seed=seed)
        ended.put(Done(time.time(), artifact.cost.wall_seconds))


def measured_rows(bench: Bench, folder: Path, options: argparse.Namespace) -> list[Row]:
    """Both ways with one worker and with two, in turn."""
    rows: list[Row] = []
    for repetition in range(options.repetitions):
        for workers in options.workers:
            place = folder / f"repetition-{repetition}-{workers}"
            fresh = bench.linked(place / "bare", PREPARED)
            bare = by_processes(fresh, workers, options.trials, options.steps)
            ray = by_ray(bench.linked(place / "ray", PREPARED), workers)
            for way, (done, seconds) in (("bare", bare), ("ray", ray)):
                rows.append(
                    {
                        "way": way, "workers": workers, "repetition": repetition, "trials": options.trials,
                        "steps": options.steps, "seconds": seconds,
                        "throughput": trials_per_second(done, workers) * options.steps, "limit": None,
                    }
                )  # fmt: skip
                print(f"{workers} worker(s) {way}: {rows[-1]['throughput']:.1f} steps/s", file=sys.stderr)
    return with_efficiency(rows)


def with_efficiency(rows: Sequence[Row]) -> list[Row]:
    """Add the throughput over that of the fewest workers of the same way and repetition, and that per worker."""
    fewest: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: -row["workers"]):
        fewest[row["way"], row["repetition"]] = row
    found = []
    for row in rows:
        one = fewest[row["way"], row["repetition"]]
        ratio = row["throughput"] / one["throughput"]
        found.append(row | {"ratio": ratio, "efficiency": ratio * one["workers"] / row["workers"]})
    return found


def calculated_rows(jobs: Sequence[Job], seconds: Mapping[str, float]) -> list[Row]:
    """One line for each number of workers, doubled until it no longer helps."""
    rows: list[Row] = []
    for workers in (2**power for power in range(1 + math.ceil(math.log2(max(2, len(jobs)))))):
        found = simulate(jobs, seconds, workers)
        rows.append(
            {
                "way": "calculated", "workers": workers, "repetition": 0, "trials": len(jobs), "steps": None,
                "seconds": found.seconds, "throughput": len(jobs) / found.seconds, "limit": found.limit,
            }
        )  # fmt: skip
        if found.limit.startswith("chain"):
            break
    return with_efficiency(rows)


def sheets(rows: Sequence[Row], name: str) -> list[Sheet]:
    """Return the tables that are printed."""
    found = []
    measured = [row for row in rows if row["way"] != "calculated"]
    if measured:
        lines = []
        for way, workers in dict.fromkeys((row["way"], row["workers"]) for row in measured):
            same = [row for row in measured if (row["way"], row["workers"]) == (way, workers)]
            steps, ratio, efficiency, whole = (
                Spread.of([row[column] for row in same]) for column in ("throughput", "ratio", "efficiency", "seconds")
            )
            shown = [steps.text(1), ratio.text(), f"{efficiency.median:.0%}", f"{whole.median:.1f}"]
            lines.append([way, str(workers), *shown])
        title = f"{measured[0]['trials']} independent trials of {measured[0]['steps']} steps"
        columns = ["<way", "workers", "steps/s [quartiles]", "× one worker", "efficiency", "whole s"]
        notes = ["steps/s while all workers are at work; whole s: for ray the run with start-up, tests and report."]
        found.append(Sheet(title, columns, lines, notes=notes, keys=2))
    lines = [
        [str(row["workers"]), f"{row['seconds']:.1f}", f"{row['ratio']:.2f}", f"{row['efficiency']:.0%}", row["limit"]]
        for row in rows
        if row["way"] == "calculated"
    ]
    columns = ["workers", "seconds", "× one worker", "efficiency", "<limit"]
    return [*found, Sheet(f"calculated for the jobs of {name}: stages only, as fast as measured", columns, lines)]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_experiment()
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="trials at once; default 1 2")
    parser.add_argument("--trials", type=int, default=4, help="independent trials (default 4)")
    parser.add_argument("--steps", type=int, default=200, help="training steps of a trial (default 200)")
    parser.add_argument("--repetitions", type=int, default=3, help="0 measures nothing and only calculates (default 3)")
    parser.add_argument("--rows", type=int, default=4000, help="training rows that are used (default 4000)")
    parser.add_argument("--run", help="calculate for this finished run (default: the runs made here)")
    parser.add_argument("--run-storage", type=Path, default=Path("runs"), help="its storage folder (default runs)")
    return parser.parse_args(arguments)


def kd_trials(experiment: Experiment, bench_rows: int, options: argparse.Namespace) -> Experiment:
    """Return the experiment as independent trials of a number of steps."""
    section = with_steps(experiment.distillation, bench_rows, options.steps)
    kd = ScheduleConfig.model_validate("kd")
    changes: dict[str, Any] = {"name": RUN, "schedules": [kd], "controls": False, "distillation": section}
    return experiment.model_copy(update={**changes, "seeds": list(range(options.trials))})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, then calculate.

    Raises:
        InputError: The options, the experiment or the run cannot work.
    """
    options = parse(arguments)
    if not options.repetitions and not options.run:
        raise InputError("--repetitions: with 0 nothing is measured here; name a finished run with --run")
    rows: list[Row] = []
    with storage_of(options) as storage:
        if options.repetitions:
            experiment = of_rows(untrained(read_experiment(options)), options.rows)
            prepared = Bench.of(options, experiment, storage)
            trials = kd_trials(experiment, len(prepared.split("train")), options)
            with ray_session():
                rows = measured_rows(prepared.of_experiment(trials), storage, options)
        place, name = _run_to_calculate(storage, options)
        jobs, seconds = measured_jobs(load_experiment(place / name / "experiment.yaml"), place)
    rows += calculated_rows(jobs, seconds)
    finish(NAME, rows, sheets(rows, name), options)


def _run_to_calculate(storage: Path, options: argparse.Namespace) -> tuple[Path, str]:
    if options.run is None:
        return storage / f"repetition-0-{min(options.workers)}" / "ray", RUN
    place = options.run_storage
    if not (place / options.run / "experiment.yaml").is_file():
        raise InputError(f"--run: there is no run '{options.run}' in '{place}'")
    return place, options.run


if __name__ == "__main__":
    sys.exit(run(main))
