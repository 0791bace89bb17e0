"""How a run fills a cluster's slots: how many of them work, and how long it takes until all do."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from common import Parser, Row, finish, run
from machine import Spread
from raylets import nodes

from raydisc.errors import InputError
from raydisc.report.table import Sheet
from raydisc.runs.jobs import Job
from raydisc.runs.proposals import TrialResult

NAME = "filling"

ABOUT = """\
Independent jobs that sleep, handed out as a run hands out its plan, on a node with a given number of slots:
share of the slots that work until the last job has begun, and seconds until all of them do. In turn with Ray Tune's
own setting, by which one trial at a time waits for its process. --start adds seconds to the start of every process:
those in which a node reads its packages. Then, without Ray: what handing out a plan costs the driver, by its length."""

EXAMPLES = """\
  python experiments/benchmarks/filling.py
  python experiments/benchmarks/filling.py --slots 8 --jobs 64 --seconds 2 --start 3"""

WAYS = ("one by one", "as in a run")


class Known:
    """Jobs that are all known from the beginning."""

    over = True

    def __init__(self, jobs: Sequence[Job]) -> None:
        """Keep the jobs until they are asked for."""
        self._jobs = jobs

    def more(self) -> Sequence[Job]:
        """Return all jobs the first time."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def ended(self, job: Job, result: TrialResult) -> None:
        """Plan nothing further."""


def filled(way: str, slots: int, jobs: int, seconds: float) -> Row:
    """Let jobs sleep, and return the use of the slots."""
    from ray import tune

    from raydisc.runtime.cluster import with_waiting
    from raydisc.runtime.job_searcher import JobSearcher
    from raydisc.runtime.tuning import tune_config

    plan = Known([Job(f"job-{number}", "") for number in range(jobs)])
    config = tune_config(JobSearcher(plan, lambda: with_waiting(slots), lambda: False))
    if way == "one by one":
        config = replace(config, max_concurrent_trials=None)
    worked: list[tuple[float, float]] = []

    class Noted(tune.Callback):
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            worked.append((result["begun"], result["ended"]))

        def __getstate__(self) -> dict[str, Any]:
            return {}

    def sleep(config: dict[str, Any]) -> None:
        begun = time.time()
        time.sleep(seconds)
        tune.report({"begun": begun, "ended": time.time()})

    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="raydisc-benchmark-") as folder:
        tune.Tuner(
            tune.with_resources(sleep, {"CPU": 1}),
            tune_config=config,
            run_config=tune.RunConfig(name="filling", storage_path=folder, verbose=0, callbacks=[Noted()]),
        ).fit()
    return {"way": way, "slots": slots, "jobs": jobs, "job_seconds": seconds} | used(worked, slots, begun)


def used(worked: Sequence[tuple[float, float]], slots: int, begun: float) -> Row:
    """Return the use of the slots until the last job began, up to which all could have worked.

    Args:
        worked: The start and the end of each job.
        slots: The number of slots.
        begun: The start of the experiment.
    """
    first, last = min(begin for begin, _ in worked), max(begin for begin, _ in worked)
    busy = sum(min(end, last) - begin for begin, end in worked)
    changes = sorted([(begin, 1) for begin, _ in worked] + [(end, -1) for _, end in worked])
    at_work = np.cumsum([change for _, change in changes])
    full = np.flatnonzero(at_work >= slots)
    return {
        "most": int(at_work.max()),
        "share": busy / max(slots * (last - first), 1e-9),
        "first_seconds": first - begun,
        "full_seconds": changes[full[0]][0] - first if len(full) else None,
        "whole_seconds": max(end for _, end in worked) - begun,
    }


def handed_out(trials: int, at_once: int) -> Row:
    """Hand out a plan of trials and their tests after each end, as Tune's loop asks for it; return the CPU seconds."""
    from raydisc.runtime.job_searcher import JobSearcher

    schedules = [Job(f"trial-{number}", "", needs=("prepare",)) for number in range(trials)]
    names = tuple(job.name for job in schedules)
    tests = [Job(f"test-{number}", "", needs=names, test=True) for number in range(trials)]
    began = time.process_time()
    searcher = JobSearcher(Known([Job("prepare", ""), *schedules, *tests]), lambda: at_once, lambda: False)
    running: list[str] = []
    asked = 0
    while True:
        asked += 1
        given = searcher.suggest(str(asked))
        if given == JobSearcher.FINISHED:
            break
        if given is not None:
            running.append(str(asked))
        else:
            searcher.on_trial_complete(running.pop(0), {})
    seconds = time.process_time() - began
    return {"way": "plan", "slots": at_once, "jobs": 2 * trials + 1, "job_seconds": seconds / asked, "most": at_once,
            "share": 0.0, "first_seconds": 0.0, "full_seconds": None, "whole_seconds": seconds}  # fmt: skip


def start_slowly(seconds: float) -> None:
    """Delay every process that Ray starts from now on by these seconds."""
    import ray

    def wait() -> None:
        time.sleep(seconds)

    address = ray.get_runtime_context().gcs_address
    ray.shutdown()
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"worker_process_setup_hook": wait})


def measured(options: argparse.Namespace) -> list[Row]:
    """Both ways in turn, so often as is asked for."""
    rows: list[Row] = []
    for repetition in range(options.repetitions):
        for way in WAYS:
            rows.append(filled(way, options.slots, options.jobs, options.seconds) | {"repetition": repetition})
            print(f"{way}: {rows[-1]['share']:.0%} of the slots, {rows[-1]['most']} at most", file=sys.stderr)
    return rows


def sheets(rows: Sequence[Row], options: argparse.Namespace) -> list[Sheet]:
    """Return the tables that are printed."""
    lines = []
    for way in WAYS:
        same = [row for row in rows if row["way"] == way]
        if not same:
            continue
        full = [row["full_seconds"] for row in same if row["full_seconds"] is not None]
        lines.append([
            way, Spread.of([100 * row["share"] for row in same]).text(0), str(max(row["most"] for row in same)),
            Spread.of(full).text(1) if len(full) == len(same) else "never",
            Spread.of([row["whole_seconds"] for row in same]).text(1),
        ])  # fmt: skip
    title = (
        f"{options.jobs} jobs of {options.seconds:g} s on {options.slots} slots, processes {options.start:g} s slower"
    )
    columns = ["<way", "% of the slots at work", "most at once", "all at work after s", "whole s"]
    found = [Sheet(title, columns, lines)] if lines else []
    plans = [row for row in rows if row["way"] == "plan"]
    if plans:
        lines = [
            [str(row["jobs"]), str(row["slots"]), f"{row['whole_seconds']:.2f}", f"{1e3 * row['job_seconds']:.3f}"]
            for row in plans
        ]
        columns = ["jobs", "at once", "CPU s", "CPU ms each time it is asked"]
        found.append(Sheet("handing out a plan, tests included", columns, lines))
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("--slots", type=int, default=8, help="that the node is said to have (default 8)")
    parser.add_argument("--jobs", type=int, default=48, help="default 48")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a job sleeps (default 3)")
    parser.add_argument(
        "--start", type=float, default=0.0, help="seconds more that a process takes to start (default 0)"
    )
    parser.add_argument("--repetitions", type=int, default=2, help="of both ways (default 2)")
    parser.add_argument("--plans", nargs="*", type=int, default=[500, 2000, 10000],
                        help="trials of plans that are handed out; default 500 2000 10000")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both ways.

    Raises:
        InputError: The options cannot work.
    """
    options = parse(arguments)
    if options.jobs < options.slots:
        raise InputError(f"--jobs: {options.jobs} cannot fill {options.slots} slots; give more")
    rows: list[Row] = []
    if options.repetitions:
        with nodes({"num_cpus": options.slots, "object_store_memory": 2**27}):
            if options.start:
                start_slowly(options.start)
            rows = measured(options)
    rows += [handed_out(trials, min(trials, 1000)) | {"repetition": 0} for trials in options.plans]
    finish(NAME, rows, sheets(rows, options), options)


if __name__ == "__main__":
    sys.exit(run(main))
