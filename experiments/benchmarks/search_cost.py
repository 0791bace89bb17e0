"""What a search costs relative to its oracle path, and the student that it ends with.

Runs are made by ``raydisc.run``, and costs are the ledger's: of each schedule as if it had run alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alone import peak_of_trial
from common import Parser, finish, overrides_of, run, storage_of
from common import Row as Line
from machine import check_threads, choose_device

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.errors import InputError
from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.differences import ORACLE as ABOVE
from raydisc.report.differences import Difference, differences, schedules_compared
from raydisc.report.ledger import Ledger
from raydisc.report.rows import ratio
from raydisc.report.schedules import is_control, schedule_order
from raydisc.report.summary import Summary, summarise
from raydisc.report.table import Sheet

NAME = "search_cost"

ABOUT = """\
What each schedule costs relative to the oracle path (MaxiDisc's best path at its own cost): FLOPs, CPU and device
seconds, wall seconds, peak memory; beside it the student's validation and test metric with their spread. MiniDisc may
be run in several settings on the same teacher and seeds, which share whatever stages they have in common."""

EXAMPLES = """\
  python experiments/benchmarks/search_cost.py
  python experiments/benchmarks/search_cost.py experiments/sst2_cpu.yaml --set task.train=... --storage runs \\
    --setting late once_for_all.choose_at=1
  python experiments/benchmarks/search_cost.py --runs quickstart quickstart-late --storage runs"""

DEFAULT = Path(__file__).resolve().parents[1] / "quickstart.yaml"
ORACLE = "oracle path"
REFERENCE = "minidisc"
COSTS = ("flops", "cpu_seconds", "device_seconds", "wall_seconds")


def run_settings(
    path: Path, overrides: Sequence[str], settings: Mapping[str, Sequence[str]], storage: Path
) -> list[str]:
    """Run an experiment file and MiniDisc alone in every setting; gives the names of the runs, the file's first.

    Raises:
        InputError: An experiment cannot work, or a trial failed.
    """
    overrides = [*overrides, f"storage={str(storage)!r}"]
    base = load_experiment(path, overrides)
    experiments = [base]
    for name, changes in settings.items():
        own = [f"name={base.name}-{name}", "controls=false"]
        changed = load_experiment(path, [*overrides, *changes, *own])
        only = [schedule for schedule in changed.schedules if schedule.name == REFERENCE]
        if not only:
            raise InputError(f"{path}: a --setting is one of {REFERENCE}, which schedules lacks")
        experiments.append(changed.model_copy(update={"schedules": only}))
    for experiment in experiments:
        _run(experiment)
    return [experiment.name for experiment in experiments]


def _run(experiment: Experiment) -> None:
    from raydisc.runtime.driver import run_experiment

    result = run_experiment(experiment)
    if result.failures:
        raise InputError(f"run {experiment.name}: {result.failures[0]}")


def settings_of(runs: Sequence[str]) -> dict[str, str]:
    """Return the runs by the name of their setting of MiniDisc; the first run is the base and is left out."""
    return {run.removeprefix(f"{runs[0]}-"): run for run in runs[1:]}


def compared(ledger: Ledger, runs: Sequence[str]) -> tuple[list[Summary], list[Difference]]:
    """Return the summaries and the regrets of the first run's schedules and of MiniDisc in the other runs.

    The labels of MiniDisc in the other runs end in a space and the name of the setting. The first run's oracle path is
    among the summaries. The intervals of the regrets hold at the same time.

    Raises:
        InputError: There is no such run, or the first has no MaxiDisc from which to take the oracle path.
    """
    base, rows = runs[0], comparison(ledger, runs)
    kept = [row for row in rows if row.run == base]
    for setting, run_name in settings_of(runs).items():
        others = [row for row in rows if row.run == run_name and row.schedule == REFERENCE]
        kept += [replace(row, run=base, label=f"{row.label} {setting}") for row in others]
    bootstrap = Bootstrap(ledger)
    found = summarise(bootstrap, kept)
    if not any(summary.oracle or _is_only_path(summary) for summary in found):
        raise InputError(f"run {base}: it has no finished maxidisc, so that nothing can be relative to its best path")
    return found, differences(bootstrap, [it for it in schedules_compared(kept) if it.above == ABOVE])


def _is_only_path(summary: Summary) -> bool:
    return summary.schedule == "maxidisc" and summary.whole and summary.tried == 1


def lines_of(
    summaries: Sequence[Summary], regrets: Sequence[Difference], peaks: Mapping[tuple[str, float], float | None]
) -> list[Line]:
    """Return the rows of the result.

    Args:
        summaries: The summaries, as from ``compared``.
        regrets: The regrets of the schedules, likewise.
        peaks: The peak memory in bytes by schedule and student's scale.
    """
    oracles = {s.student_scale: s for s in summaries if s.oracle or _is_only_path(s)}
    intervals = {(it.student_scale, it.below): it.interval for it in regrets}
    chosen = [s for s in summaries if s.whole or s.oracle]
    chosen.sort(key=lambda s: (-s.student_scale, s.oracle, schedule_order(s.schedule)))
    lines: list[Line] = []
    for summary in chosen:
        floor = oracles[summary.student_scale]
        name = ORACLE if summary.oracle else summary.label
        line: Line = {
            "run": summary.run, "task": summary.task, "schedule": name, "student_scale": summary.student_scale,
            "path": " / ".join(map(formats.path, summary.paths)), "trials": summary.tried if summary.whole else 1,
            "seeds": len(summary.replicates), "metric": summary.metric, "oracle_path": formats.path(floor.paths[0]),
        }  # fmt: skip
        for cost in COSTS:
            mine, least = (getattr(s.cost, cost) if s.cost else None for s in (summary, floor))
            line |= {cost: mine, f"{cost}_relative": ratio(mine, least)}
        for split, estimate in (("validation", summary.validation), ("test", summary.test)):
            line |= {split: estimate.mean, f"{split}_se": estimate.se, f"{split}_sd": estimate.sd}
        regret = intervals.get((summary.student_scale, name))
        bounds = (regret.mean, regret.low, regret.high) if regret else (0.0,) * 3 if summary.oracle else (None,) * 3
        line |= dict(zip(("regret", "regret_low", "regret_high"), bounds, strict=True))
        mine, least = (peaks.get((s, summary.student_scale)) for s in (name, ORACLE))
        lines.append(line | {"peak_bytes": mine, "peak_bytes_relative": ratio(mine, least)})
    return lines


def memory(
    summaries: Sequence[Summary], storage: Path, runs: Sequence[str], steps: int
) -> dict[tuple[str, float], float | None]:
    """Peak memory of one trial of each schedule, alone in a child process, over a few steps of each stage.

    MaxiDisc's is that of its paths, of which the oracle path is one; controls are left out.
    """
    found: dict[tuple[str, float], float | None] = {}
    settings = settings_of(runs)
    for summary in summaries:
        name = ORACLE if summary.oracle else summary.label
        if is_control(summary.schedule) or (summary.schedule == "maxidisc" and not summary.oracle):
            continue
        label, _, setting = summary.label.partition(" ")
        experiment = load_experiment(storage / settings.get(setting, runs[0]) / "experiment.yaml")
        scale = summary.student_scale
        found[name, scale] = peak_of_trial(experiment, storage, label, scale, summary.paths[0], steps)
        print(f"{name}, student {scale:g}: at most {(found[name, scale] or 0) / 2**20:,.0f} MiB", file=sys.stderr)
    return found


def sheet(lines: Sequence[Line]) -> Sheet:
    """Return the tables that are printed."""
    first = lines[0]
    unit, size = formats.flop_unit(line["flops"] for line in lines)
    shown = []
    for line in lines:
        peak = line["peak_bytes"]
        shown.append([
            line["schedule"] + (f", best of {line['trials']}" if line["trials"] > 1 else ""), line["path"],
            formats.scale(line["student_scale"]),
            formats.significant(None if line["flops"] is None else line["flops"] / size),
            *(formats.times(line[f"{cost}_relative"]) for cost in COSTS),
            formats.DASH if peak is None else f"{peak / 2**20:.0f}", formats.times(line["peak_bytes_relative"]),
            formats.with_error(line["validation"], line["validation_se"]),
            formats.with_error(line["test"], line["test_se"]), formats.decimal(line["test_sd"]),
            _regret(line),
        ])  # fmt: skip
    columns = ["<schedule", "<path", "student", unit, "× FLOPs", "× CPU s", "× device s", "× wall s", "peak MiB",
               "× peak", "validation", "test", "sd", "regret"]  # fmt: skip
    notes = [
        f"× is relative to the oracle path, {first['oracle_path']}. ± is the standard error over examples, sd over "
        "seeds. Regret: the oracle path's test metric minus this one's [95% intervals, all at once].",
        "Peak: memory of one trial beyond its imports, alone in a process, over a few steps of each stage.",
    ]
    title = f"{first['run']}: {first['metric']} on {first['task']}, {first['seeds']} seed(s)"
    return Sheet(title, columns, shown, notes=notes, keys=3)


def _regret(line: Line) -> str:
    if line["regret"] is None:
        return formats.DASH
    bounds = "" if line["regret_low"] is None else f" [{line['regret_low']:+.3f}, {line['regret_high']:+.3f}]"
    return formats.signed(line["regret"]) + bounds


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("experiments", nargs="*", type=Path, help="experiment files (default: the quickstart's)")
    parser.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="RUN",
        help="read these runs of --storage instead: one with maxidisc, then MiniDisc in other settings",
    )
    parser.add_argument(
        "--setting",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="also run MiniDisc with these overrides under this name; may be repeated",
    )
    parser.add_argument(
        "--memory-steps",
        type=int,
        default=5,
        help="training steps of each stage while peak memory is measured; 0 leaves it out (default 5)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, compare.

    Raises:
        InputError: The options, an experiment or a run cannot work.
    """
    options = parse(arguments)
    if options.runs and (options.experiments or options.storage is None):
        raise InputError("--runs: names finished runs of --storage; give that, and no experiment file")
    settings = {name: changes for name, *changes in options.setting}
    lines: list[Line] = []
    sheets = []
    with storage_of(options) as storage:
        ledger = Ledger(storage / "ledger")
        for runs in [options.runs] if options.runs else _made(options, settings, storage):
            summaries, regrets = compared(ledger, runs)
            peaks = memory(summaries, storage, runs, options.memory_steps) if options.memory_steps else {}
            lines += (found := lines_of(summaries, regrets, peaks))
            sheets.append(sheet(found))
    finish(NAME, lines, sheets, options)


def _made(options: argparse.Namespace, settings: Mapping[str, Sequence[str]], storage: Path) -> list[list[str]]:
    """Run each experiment file one trial at a time, so that seconds are of trials that ran alone."""
    resources = ["resources.trials=1", f"resources.cpus={check_threads(options.threads)}"]
    if choose_device(options.device).type == "cuda":
        resources.append("resources.gpus=1")
    overrides = [*resources, *overrides_of(options)]
    return [run_settings(path, overrides, settings, storage) for path in options.experiments or [DEFAULT]]


if __name__ == "__main__":
    sys.exit(run(main))
