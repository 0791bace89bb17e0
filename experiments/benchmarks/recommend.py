"""A recommendation beside what else one budget buys: each arm alone, one of them at random, and plain ASHA.

Runs are made by ``raydisc.run``, one after the other, in one storage, so that they share the teacher.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Parser, Row, finish, overrides_of, run, storage_of

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError
from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.ledger import Ledger
from raydisc.report.rows import Row as Trial
from raydisc.report.table import Sheet
from raydisc.schedules.arms import ARMS

NAME = "recommend"

ABOUT = """\
A recommendation beside KD with the whole budget, every other arm with the whole budget (of which the best is known
afterwards only, and their mean is that of an arm taken at random), and plain ASHA: Optuna's random draws of the
learning rates of the arms, stopped early by asha, each trial of --asha-epochs epochs. ASHA knows no supernet and no
assistants, and its cost is what its trials come to: the table has it beside the budget."""

EXAMPLES = """\
  python experiments/benchmarks/recommend.py --budget 2e12
  python experiments/benchmarks/recommend.py experiments/quickstart.yaml --budget 5e12 --arms kd kd_lr_up --asha 0"""

DEFAULT = Path(__file__).resolve().parents[1] / "quickstart.yaml"


def variants(budget: float, arms: Sequence[str], asha: int, base: Experiment) -> dict[str, dict[str, Any]]:
    """Return the schedules that are run, by the names of their runs.

    Args:
        budget: The FLOPs of each.
        arms: The arms of the recommendation.
        asha: The number of ASHA's trials; 0 leaves it out.
        base: The experiment.
    """
    found = {"recommended": {"recommend": {"budget_flops": budget, "arms": list(arms)}}}
    found |= {f"alone-{arm}": {"recommend": {"budget_flops": budget, "arms": [arm]}} for arm in arms}
    if asha:
        rates = sorted({base.distillation.lr * ARMS[arm].lr for arm in arms})
        space = {"distillation.lr": {"choices": rates}, "path": {"choices": [[]]}}
        searched = {"sampler": "random", "trials": asha, "at_once": asha, "space": space, "stopping": "asha"}
        found["asha"] = {"optuna": searched}
    return found


def run_variants(base: Experiment, schedules: Mapping[str, Mapping[str, Any]], asha_epochs: float) -> list[str]:
    """Run the experiment with each of the schedules, and return the names of the runs.

    Raises:
        InputError: A run cannot work, or a trial failed.
    """
    from raydisc.runtime.driver import run_experiment

    names = []
    for name, written in schedules.items():
        changes: dict[str, Any] = {"name": f"{base.name}-{name}", "controls": False}
        changes["schedules"] = [ScheduleConfig.model_validate(written)]
        if "optuna" in written:
            own = {"epochs": asha_epochs, "patience": round(asha_epochs) + 1}
            changes["distillation"] = base.distillation.model_copy(update=own)
        result = run_experiment(base.model_copy(update=changes))
        if result.failures:
            raise InputError(f"run {changes['name']}: {result.failures[0]}")
        names.append(changes["name"])
    return names


def lines_of(ledger: Ledger, runs: Sequence[str]) -> list[Row]:
    """Return the student of each run with its cost, and how far its test metric is from the recommendation's.

    The first run is the recommendation. The standard error of a difference is over the test examples.
    """
    bootstrap = Bootstrap(ledger)
    by_run: dict[str, list[Trial]] = {}
    for row in comparison(ledger, runs):
        if row.selected:
            by_run.setdefault(row.run, []).append(row)
    return [_line(bootstrap, name, by_run[name], by_run[runs[0]]) for name in runs]


def _line(bootstrap: Bootstrap, name: str, rows: Sequence[Trial], first: Sequence[Trial]) -> Row:
    mine, theirs = (bootstrap.metrics(rows[0].metric, [row.test for row in side], "test") for side in (rows, first))
    difference = None if mine is None or theirs is None else mine.mean(0) - theirs.mean(0)
    tests = [[row.test_metric or 0.0 for row in side] for side in (rows, first)]
    return {
        "run": name,
        "replicates": len(rows),
        "validation": float(np.mean([row.validation_metric or 0.0 for row in rows])),
        "test": float(np.mean(tests[0])),
        "flops": sum(row.schedule_cost.flops for row in rows if row.schedule_cost) / len(rows),
        "difference": float(np.mean(tests[0]) - np.mean(tests[1])),
        "difference_se": None if difference is None else float(difference.std(ddof=1)),
    }


def summary_of(lines: Sequence[Row]) -> list[str]:
    """Return in words how the recommendation stands beside an arm at random, and the best one."""
    alone = [line for line in lines if "-alone-" in line["run"]]
    best = max(alone, key=lambda line: line["test"])
    mean = sum(line["test"] for line in alone) / len(alone)
    mine = lines[0]["test"]
    return [
        f"An arm at random has {mean:.4f} on test on average, the recommendation {mine:.4f}.",
        f"The best single arm, known afterwards, is {best['run']}: {100 * (best['test'] - mine):+.2f} points.",
    ]


def sheet(lines: Sequence[Row]) -> Sheet:
    """Return the result as a table."""
    cells = [
        [
            line["run"],
            str(line["replicates"]),
            formats.decimal(line["validation"], 4),
            formats.decimal(line["test"], 4),
            formats.flops(line["flops"]),
            formats.with_error(line["difference"], line["difference_se"]),
        ]
        for line in lines
    ]
    columns = ["<run", "replicates", "validation", "test", "FLOPs", "test, less the recommendation's"]
    return Sheet("what a budget buys", columns, cells, notes=summary_of(lines))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("experiment", type=Path, nargs="?", default=DEFAULT, help="an experiment file")
    parser.add_argument("--budget", type=float, required=True, help="FLOPs of each student")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="the arms (default: all)")
    parser.add_argument("--asha", type=int, default=4, help="trials of ASHA; 0 leaves it out (default 4)")
    parser.add_argument("--asha-epochs", type=float, default=10.0, help="epochs of a trial of ASHA (default 10)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every variant, and compare.

    Raises:
        InputError: The options, the experiment or a run cannot work.
    """
    options = parse(arguments)
    with storage_of(options) as storage:
        base = load_experiment(options.experiment, [*overrides_of(options), f"storage={str(storage)!r}"])
        schedules = variants(options.budget, options.arms, options.asha, base)
        lines = lines_of(Ledger(storage / "ledger"), run_variants(base, schedules, options.asha_epochs))
    finish(NAME, lines, [sheet(lines)], options)


if __name__ == "__main__":
    sys.exit(run(main))
