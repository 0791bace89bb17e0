"""How often the intervals of reports hold, by simulation or on the teachers of finished runs.

Simulated are the differences of two schedules on each test row (+1, 0 or -1), as accuracies have them. A run's true
difference is drawn around 0 with the standard deviation of the case. The rows on which the schedules disagree, and
which of the two is right there, are drawn for every run or, on a share of the rows, once for all runs.

With --runs nothing is simulated: of finished runs with several teachers, intervals from every part of the teachers are
held against the mean over the others.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import run
from coverage_of_runs import sheet_of_run

from raydisc.errors import InputError
from raydisc.report.intervals import LEVEL, Interval, Paired, half_width, simultaneous
from raydisc.report.ledger import Ledger
from raydisc.report.table import Sheet, print_sheets
from raydisc.tasks.metrics import bootstrap_weights

_BLOCK = 50  # repetitions at once: bounds memory
_TYPICAL = 0.5  # the share of common rows in tables
_FAMILY = 7  # differences of one table, as of the quickstart's schedules


@dataclass(frozen=True)
class Case:
    """A case that is simulated.

    Attributes:
        disagreement: The share of the test rows on which the two schedules disagree.
        spread: The standard deviation of the true difference over replicates, in points.
        replicates: The number of replicates.
        common: The share of the rows on which all runs disagree alike.
        seeds: The number of runs that are averaged in a replicate; their spread is half that of replicates.
    """

    disagreement: float
    spread: float
    replicates: int
    common: float
    seeds: int = 1


CASES = tuple(
    Case(disagreement, spread, replicates, common)
    for replicates, spread, disagreement, common in itertools.product(
        (1, 3, 5), (0.0, 0.5, 1.0), (0.05, 0.10), (0.0, 0.5, 1.0)
    )
)
"""The cases of the table."""

NESTED = tuple(Case(0.10, spread, 3, 0.5, seeds=2) for spread in (0.0, 0.5, 1.0))
"""Three teachers with two seeds each."""


def true_differences(rng: np.random.Generator, case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """Return the true difference in each run, ``[*shape, replicates, seeds]``."""
    spread = case.spread / 100
    between = rng.normal(0.0, spread, (*shape, case.replicates, 1))
    within = rng.normal(0.0, spread / 2, (*shape, case.replicates, case.seeds)) if case.seeds > 1 else 0.0
    return np.clip(between + within, -case.disagreement, case.disagreement)


def on_rows(rng: np.random.Generator, case: Case, true: np.ndarray, rows: int) -> np.ndarray:
    """Return the differences on the test rows, ``[repetitions, replicates, seeds, rows]`` float32."""
    drawn = rng.random((*true.shape, rows), dtype=np.float32)
    common = round(case.common * rows)
    drawn[..., :common] = drawn[:, :1, :1, :common]
    ahead, behind = (case.disagreement + true) / 2, (case.disagreement - true) / 2
    return (drawn < ahead[..., None]).astype(np.float32) - (drawn > 1.0 - behind[..., None])


def coverage(
    case: Case, repetitions: int, rows: int = 2000, resamples: int = 300, seed: int = 0
) -> tuple[float, float]:
    """Return how often an interval by itself holds, and its mean half-width in points.

    With one replicate it is to hold the true difference of that run, with several that of all possible ones, 0.
    """
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(rows, resamples, seed) / rows
    holds, widths = [], []
    for start in range(0, repetitions, _BLOCK):
        true = true_differences(rng, case, (min(_BLOCK, repetitions - start),))
        differences = on_rows(rng, case, true, rows)
        resampled = (differences @ weights.T).mean(2)  # [repetitions, replicates, resamples]
        values = differences.mean(3, dtype=np.float64).mean(2)
        together = resampled.mean(1).var(1, ddof=1)
        half = half_width(values, resampled.var(2, ddof=1), together, 1.0 - LEVEL)
        aim = true[:, 0, 0] if case.replicates == 1 else 0.0
        holds.append(np.abs(values.mean(1) - aim) <= half)
        widths.append(half)
    return float(np.concatenate(holds).mean()), 100 * float(np.concatenate(widths).mean())


def coverage_of_tables(
    case: Case, repetitions: int, rows: int = 2000, resamples: int = 300, seed: int = 0
) -> tuple[float, float]:
    """Return how often all differences of one schedule to seven others hold, at once and if taken one by one."""
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(rows, resamples, seed) / rows
    # Half of the disagreement and of the variance of a difference is that of either schedule.
    each = Case(case.disagreement / 2, case.spread / np.sqrt(2), case.replicates, case.common)
    together, alone = [], []
    for _ in range(repetitions):
        true = true_differences(rng, each, (1 + _FAMILY,))
        accuracies = on_rows(rng, each, true, rows)[:, :, 0]  # relative to what all schedules have in common
        resampled, values = accuracies @ weights.T, accuracies.mean(2, dtype=np.float64)
        aims = (true[0] - true[1:])[:, 0, 0] if case.replicates == 1 else np.zeros(_FAMILY)
        teachers = range(case.replicates)
        table = [Paired(values[0] - values[k], teachers, resampled[0] - resampled[k]) for k in range(1, 1 + _FAMILY)]
        together.append(all(_holds(found, aim) for found, aim in zip(simultaneous(table), aims, strict=True)))
        alone.append(all(_holds(simultaneous([it])[0], aim) for it, aim in zip(table, aims, strict=True)))
    return float(np.mean(together)), float(np.mean(alone))


def _holds(interval: Interval, aim: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= aim <= interval.high


def sheets(repetitions: int, tables: int, rows: int) -> list[Sheet]:
    """Return the tables that are printed."""
    lines = []
    for seed, case in enumerate([*CASES, *NESTED]):
        share, width = coverage(case, repetitions, rows, seed=seed)
        lines.append([*_named(case), f"{share:.3f}", f"{width:.2f}"])
    columns = ["replicates", "sd (points)", "disagree", "common rows", "coverage", "half-width (points)"]
    error = np.sqrt(LEVEL * (1.0 - LEVEL) / repetitions)
    alone = Sheet(
        f"one difference, {rows} test rows, {repetitions} repetitions (standard error {error:.3f})", columns, lines,
        notes=["3 × 2 replicates: three teachers with two seeds each; sd is over teachers, half as much over seeds."],
        keys=4,
    )  # fmt: skip
    families = [case for case in CASES if case.common == _TYPICAL]
    lines = []
    for seed, case in enumerate(families):
        together, each = coverage_of_tables(case, tables, rows, seed=seed)
        lines.append([*_named(case), f"{together:.3f}", f"{each:.3f}"])
    error = np.sqrt(LEVEL * (1.0 - LEVEL) / tables)
    columns = [*columns[:4], "all hold", "all hold if taken one by one"]
    title = f"{_FAMILY} differences to one schedule, {tables} tables (standard error {error:.3f})"
    return [alone, Sheet(title, columns, lines, keys=4)]


def _named(case: Case) -> list[str]:
    replicates = f"{case.replicates}" if case.seeds == 1 else f"{case.replicates} × {case.seeds}"
    return [replicates, f"{case.spread:g}", f"{case.disagreement:.0%}", f"{case.common:.0%}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how often the intervals hold.

    Raises:
        InputError: The options or a run cannot work.
    """
    parser = argparse.ArgumentParser(prog="interval_coverage", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000, help="repetitions for one difference (default 2000)")
    parser.add_argument("--tables", type=int, default=500, help="repetitions for a table (default 500)")
    parser.add_argument("--rows", type=int, default=2000, help="number of test rows (default 2000)")
    parser.add_argument("--runs", nargs="+", default=[], metavar="RUN",
                        help="read these runs of --storage instead, each with three teachers or more")  # fmt: skip
    parser.add_argument("--storage", type=Path, help="the storage of the runs")
    options = parser.parse_args(arguments)
    if bool(options.runs) != bool(options.storage):
        raise InputError("--runs: names finished runs of --storage; give both or neither")
    if options.runs:
        ledger = Ledger(options.storage / "ledger")
        found = [sheet_of_run(ledger, name) for name in options.runs]
    else:
        found = sheets(options.repetitions, options.tables, options.rows)
    print_sheets(found, sys.stdout)


if __name__ == "__main__":
    sys.exit(run(main))
