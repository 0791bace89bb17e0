"""What telling people costs with very many candidates: live, and from the ledger."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Parser, Row, finish, run, storage_of
from machine import Spread, resident_bytes

from raydisc.report.compare import compare
from raydisc.report.html import html_report
from raydisc.report.ledger import Ledger
from raydisc.report.live.reporter import LiveReporter
from raydisc.report.runs import list_runs
from raydisc.report.show import show
from raydisc.report.table import Sheet
from raydisc.training.progress import ScoredCandidate

NAME = "reporting"

ABOUT = """\
A run of many candidates, each also a path of MaxiDisc with a trial of its own: CPU seconds of the live
reporter for each event, as plain lines and at a terminal (with what drawing takes while nothing happens), and
of `raydisc show`, `compare`, `ls` and `report` on its ledger."""

EXAMPLES = """\
  python experiments/benchmarks/reporting.py
  python experiments/benchmarks/reporting.py --candidates 10 100 --validation-rows 1000"""

RUN = "many"
STUDENT = 0.001


class Terminal(io.StringIO):
    """Takes what a terminal would show."""

    def isatty(self) -> bool:
        """Return True, as a terminal does."""
        return True


def candidates(count: int) -> list[Row]:
    """Candidates as once-for-all reports them, the student's scale among them."""
    random = np.random.default_rng(0)
    scales = np.linspace(STUDENT, 0.95, count + 1).round(6)
    return [
        {
            "scale": float(scale), "measured_scale": float(scale), "flops_share": float(scale), "parameters": 10**8,
            "flops": 1e9 * float(scale), "heads": [12] * 12, "neurons": [3072] * 12,
            "metric": float(metric), "se": 0.01, "reference": 1.0,
        }
        for scale, metric in zip(scales, random.uniform(0.7, 0.9, len(scales)), strict=True)
    ]  # fmt: skip


def live_rows(count: int, plain: bool, idle_seconds: float) -> list[Row]:
    """Measure each kind of event for a number of trials, and the share of a core that drawing takes afterwards."""
    reporter = LiveReporter(plain=plain, file=Terminal())
    way = "plain" if plain else "terminal"
    scored = [
        ScoredCandidate(row["scale"], row["scale"], row["parameters"], row["reference"], row["metric"], row["se"])
        for row in candidates(count)
    ]

    def timed(what: str, events: int, act: Callable[[], None]) -> Row:
        begun = time.process_time()
        act()
        return {"what": f"live, {way}: {what}", "events": events, "seconds": time.process_time() - begun}

    def update(step: int) -> None:
        for number in range(count):
            reporter.update(f"trial {number}", f"maxidisc {number}", "distil", step, 1000)

    def finished() -> None:
        for number in range(count):
            reporter.finished(f"trial {number}", f"maxidisc {number}", "validation accuracy 0.812 ±0.010")

    reporter.start(RUN, count)
    found = [
        timed("a stage begins", count, lambda: update(0)),
        timed("a step", count, lambda: update(10)),
        timed("all candidates evaluated", 1, lambda: reporter.candidates(scored, "supernet")),
    ]
    if not plain:
        begun = time.perf_counter()
        drawing = timed("drawing, for each second", 1, lambda: time.sleep(idle_seconds))
        found.append(drawing | {"seconds": drawing["seconds"] / (time.perf_counter() - begun)})
    found.append(timed("a trial ends", count, finished))
    reporter.stop()
    return found


def filled_ledger(storage: Path, count: int, validation_rows: int) -> tuple[Ledger, float, int]:
    """Write the ledger of a run of candidates and trials; return it, the seconds that it took, and its files."""
    ledger, random = Ledger(storage / "ledger"), np.random.default_rng(0)
    labels = random.integers(0, 2, validation_rows)
    begun = time.process_time()

    def predict(key: str, split: str, scale: float | None = None) -> None:
        part = key if scale is None else f"{key}-{scale:g}"
        logits = random.normal(size=(validation_rows, 2)).astype(np.float32)
        ledger.write_predictions(key, split, scale, logits, labels, part)

    def stage(key: str, kind: str, *inputs: str) -> str:
        ledger.write("stages", [_stage(key, kind, inputs)], key)
        return key

    for key, kind, inputs in (
        ("data", "tokenise", ()),
        ("teacher", "finetune", ("data",)),
        ("outputs", "teacher_outputs", ("data", "teacher")),
        ("importance", "importance", ("data", "teacher")),
        ("supernet", "once_for_all", ("data", "importance", "outputs")),
    ):
        stage(key, kind, *inputs)
    rows = candidates(count)
    told = [{"key": "supernet", "metric_se": row.pop("se"), **row} for row in rows]
    ledger.write("candidates", told, "supernet")
    metrics = [_metric("supernet", "once_for_all", "validation", row["metric"], row["scale"]) for row in rows]
    ledger.write("metrics", metrics, "supernet")
    for number, row in enumerate(rows):
        predict("supernet", "validation", row["scale"])
        if number == 0:
            continue  # the student's own scale
        assistant = stage(f"assistant-{number}", "distil", "data", "importance", "outputs")
        taught = stage(f"outputs-{number}", "teacher_outputs", "data", assistant)
        student = stage(f"student-{number}", "distil", "data", "importance", taught, assistant)
        test = stage(f"test-{number}", "evaluate", "data", student)
        predict(student, "validation")
        predict(test, "test")
        ledger.write("metrics", [_metric(student, "distil", "validation", 0.8)], student)
        ledger.write("metrics", [_metric(test, "evaluate", "test", 0.8)], test)
        ledger.write("trials", [_trial(number, row["scale"], student, test, assistant, taught)], f"{RUN}.{number}")
    files = sum(1 for path in ledger.root.rglob("*.parquet"))
    return ledger, time.process_time() - begun, files


def _stage(key: str, kind: str, inputs: Sequence[str]) -> Row:
    settings = '{"teacher": ["teacher", null]}' if kind == "teacher_outputs" else "{}"
    return {
        "key": key, "kind": kind, "run": RUN, "trial": "t", "state": "finished", "inputs": list(inputs), "flops": 1e12,
        "device_seconds": 1.0, "wall_seconds": 1.0, "cpu_seconds": 1.0, "settings": settings, "seed": 0, "message": "",
        "finished_at": "2026-01-01T00:00:00",
    }  # fmt: skip


def _metric(key: str, kind: str, split: str, value: float, scale: float | None = None) -> Row:
    return {"key": key, "kind": kind, "split": split, "step": None, "scale": scale, "metric": "accuracy",
            "value": value, "se": 0.01}  # fmt: skip


def _trial(number: int, scale: float, student: str, test: str, *stages: str) -> Row:
    return {
        "run": RUN, "trial": f"maxidisc-{number}", "task": "toy", "metric": "accuracy", "schedule": "maxidisc",
        "path": [scale], "student_scale": STUDENT, "student_parameters": 10**6, "lam": None,
        "initialisation": "assistant", "seed": 0, "student": student, "supernet": None, "test": test,
        "state": "finished", "validation_metric": 0.8, "stages": [*stages, student], "reused": [], "message": "",
    }  # fmt: skip


def ledger_rows(storage: Path, count: int, validation_rows: int) -> list[Row]:
    """Measure the cost of reading the ledger of a number of candidates."""
    ledger, seconds, files = filled_ledger(storage, count, validation_rows)
    found = [{"what": "write a part of the ledger", "events": files, "seconds": seconds}]
    readings: dict[str, Callable[[], Any]] = {
        "read all stages": lambda: ledger.rows("stages"),
        "read all stages again, with one more": lambda: _one_more(ledger),
        "raydisc ls": lambda: list_runs(storage),
        "raydisc compare": lambda: compare(ledger, [RUN]),
        "raydisc show": lambda: show(ledger, RUN),
        "raydisc report": lambda: html_report(ledger, RUN),
    }
    for what, read in readings.items():
        begun = time.process_time()
        read()
        found.append({"what": what, "events": 1, "seconds": time.process_time() - begun})
        print(f"{count}: {what}, {found[-1]['seconds']:.2f} s", file=sys.stderr)
    return found


def _one_more(ledger: Ledger) -> None:
    """Read the ledger as a driver with a budget of hours does whenever a stage begins or ends."""
    ledger.write("stages", [_stage("one-more", "distil", [])], "one-more")
    ledger.rows("stages")


def sheet(rows: Sequence[Row]) -> Sheet:
    """Return the tables that are printed."""
    counts = list(dict.fromkeys(row["candidates"] for row in rows))
    lines = []
    for what in dict.fromkeys(row["what"] for row in rows):
        cells = [what]
        for count in counts:
            same = [row for row in rows if (row["what"], row["candidates"]) == (what, count)]
            cells.append(f"{1e3 * Spread.of([row['seconds'] / row['events'] for row in same]).median:,.3g}")
        lines.append(cells)
    columns = ["<CPU ms of one", *(f"{count:,} candidates" for count in counts)]
    return Sheet("reporting", columns, lines, notes=[f"Resident at the end: {rows[-1]['resident'] / 2**20:,.0f} MiB."])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("--candidates", nargs="+", type=int, default=[10, 100, 1000], help="default 10 100 1000")
    parser.add_argument("--validation-rows", type=int, default=200, help="that predictions are kept of (default 200)")
    parser.add_argument("--idle-seconds", type=float, default=4.0, help="that drawing is watched (default 4)")
    parser.add_argument("--repetitions", type=int, default=1, help="of all (default 1)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every number of candidates.

    Raises:
        InputError: The options cannot work.
    """
    options = parse(arguments)
    os.environ.setdefault("TERM", "xterm")
    rows: list[Row] = []
    with storage_of(options) as storage:
        for _ in range(options.repetitions):
            for count in options.candidates:
                place = storage / f"of-{count}"
                found = [
                    *live_rows(count, True, options.idle_seconds),
                    *live_rows(count, False, options.idle_seconds),
                    *ledger_rows(place, count, options.validation_rows),
                ]
                rows += [row | {"candidates": count, "resident": resident_bytes()} for row in found]
                shutil.rmtree(place)
    finish(NAME, rows, [sheet(rows)], options)


if __name__ == "__main__":
    sys.exit(run(main))
