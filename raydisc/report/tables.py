"""The comparison as tables: on a terminal, in a pipe, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from raydisc.report import formats
from raydisc.report.compare import comparison
from raydisc.report.correlation import Correlation, correlations
from raydisc.report.ledger import Ledger
from raydisc.report.regret import Interval
from raydisc.report.rows import FIELDS, Row, grouped
from raydisc.report.schedules import oracle_schedule, reference_schedule, title_of
from raydisc.report.stages import run_teacher
from raydisc.report.summary import Summary, summarise
from raydisc.report.table import Sheet, Style, as_markdown, print_sheets
from raydisc.tasks.metrics import shown_as


def print_comparison(ledger: Ledger, runs: Sequence[str], file: IO[str] | None = None, plain: bool = False) -> None:
    """Show the comparison of runs: coloured on a terminal, aligned text in a pipe or on ``plain``.

    Raises:
        InputError: The storage knows no such run.
    """
    print_sheets(_sheets(ledger, runs), file or sys.stdout, plain)


def comparison_markdown(ledger: Ledger, runs: Sequence[str]) -> str:
    """Return the comparison as Markdown tables.

    Raises:
        InputError: The storage knows no such run.
    """
    return "\n".join(map(as_markdown, _sheets(ledger, runs)))


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of ``raydisc.report.compare.compare`` as CSV; a path is a JSON list, the unknown is empty."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "path": json.dumps(row["path"])})
    return stream.getvalue()


def comparison_sheets(ledger: Ledger, rows: Sequence[Row], summaries: Sequence[Summary]) -> list[Sheet]:
    """Return the comparison table of each run, and below it the differences that decide about it.

    Args:
        ledger: Where the rows come from.
        rows: Of ``raydisc.report.compare.comparison``.
        summaries: The rows condensed, of ``raydisc.report.summary.summarise``.
    """
    related = correlations(ledger, rows)
    sheets = []
    for run, members in grouped(summaries, lambda s: s.run).items():
        sheets.append(_schedules(run, members, run_teacher(ledger, run)))
        sheets.append(_differences(run, members, [c for c in related if c.run == run]))
    return [sheet for sheet in sheets if sheet.lines]


def _sheets(ledger: Ledger, runs: Sequence[str]) -> list[Sheet]:
    rows = comparison(ledger, runs)
    return comparison_sheets(ledger, rows, summarise(ledger, rows))


def _schedules(run: str, summaries: Sequence[Summary], teacher: Mapping[str, float | None]) -> Sheet:
    unit, size = formats.flop_unit(s.cost.flops if s.cost else None for s in summaries)
    spread = any(s.test.sd is not None for s in summaries)
    shown = shown_as(summaries[0].metric)
    columns = ["<schedule", "<path", "student", "validation", "test", *([shown.name] if shown else []),
               *(["sd"] if spread else []), unit,
               "device s", "wall s", f"× {title_of(reference_schedule())}", "× oracle"]  # fmt: skip
    tested = formats.with_error(teacher["test_metric"], teacher["test_se"])
    first = ["teacher", formats.DASH, "1", formats.decimal(teacher["validation_metric"]), tested]
    if shown:
        first.append(formats.derived(shown, teacher["test_metric"]))
    lines = [first + [formats.DASH] * (len(columns) - len(first))]
    for s in summaries:
        lines.append([
            ("" if s.whole else "  ") + s.schedule + (f", best of {s.tried}" if s.whole and s.tried > 1 else ""),
            ", ".join(map(formats.path, s.paths)) + (" *" if s.oracle else ""),
            formats.scale(s.student_scale),
            formats.estimate(s.validation),
            formats.estimate(s.test),
            *([formats.derived(shown, s.test.mean)] if shown else []),
            *([formats.decimal(s.test.sd)] if spread else []),
            formats.significant(s.cost.flops / size if s.cost else None),
            formats.seconds(s.cost.device_seconds if s.cost else None),
            formats.seconds(s.cost.wall_seconds if s.cost else None),
            formats.times(s.cost_relative_to_reference),
            formats.times(s.cost_relative_to_oracle),
        ])  # fmt: skip
    styles: list[Style] = ["", *map(_style, summaries)]
    return Sheet(_title(run, summaries), columns, lines, styles, _notes(summaries, spread), keys=3)


def _title(run: str, summaries: Sequence[Summary]) -> str:
    first = summaries[0]
    seeds = sorted({seed for s in summaries for seed in s.seeds})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"{run}: {first.metric} on {first.task}, {named}"


def _style(summary: Summary) -> Style:
    if not summary.whole:
        return "dim"
    return "bold" if summary.schedule == reference_schedule() else ""


def _notes(summaries: Sequence[Summary], spread: bool) -> list[str]:
    notes = [
        "± is the standard error over the split's examples (bootstrap"
        + ("; seeds share their examples); sd is over seeds." if spread else ").")
        + " Costs are those of the search, from the finished teacher to the student, as if the schedule had run alone;"
        + " seconds were measured beside other trials."
    ]
    if any(not s.whole for s in summaries):
        notes.append("Indented lines are one path of a schedule each, at the cost of that path alone.")
    if any(s.schedule == oracle_schedule() for s in summaries):
        notes.append(
            f"* The oracle: the {title_of(oracle_schedule())} path with the best validation metric averaged over "
            "seeds, at its own cost."
        )
    return notes


def _differences(run: str, summaries: Sequence[Summary], related: Sequence[Correlation]) -> Sheet:
    """Paired differences of test metrics: the reference against the others, and the oracle path against all."""
    lines = []
    for s in (s for s in summaries if s.whole):
        if s.schedule != reference_schedule():
            lines.append(_difference(s, f"{reference_schedule()} − {s.schedule}", s.reference_minus))
        lines.append(_difference(s, f"oracle − {s.schedule}", s.regret))
    known = [line for line in lines if line[2] != formats.DASH]
    judged = any(s.regret for s in summaries)
    notes = ["What the oracle path has more than a schedule is the schedule's regret."] if judged else []
    notes += [
        f"Student {formats.scale(c.student_scale)}: Kendall τ between a candidate's tradeoff (λ = {c.lam:g}) and the "
        f"test metric of the student distilled through it: {formats.signed(c.tau, 2)} (p = {c.p:.2g}, {c.scales} "
        f"candidates, {c.seeds} seed{'s' if c.seeds > 1 else ''})."
        for c in related
    ]
    columns = ["<difference in test metric", "student", "mean [95% interval]", "<verdict"]
    return Sheet(f"{run}: paired by test example and seed", columns, known, notes=notes, keys=2)


def _difference(summary: Summary, name: str, difference: Interval | None) -> list[str]:
    if difference is None or difference.low is None:
        verdict = "no interval without predictions"
    elif difference.low == difference.high == 0.0:
        verdict = "the same on every resample"
    elif not difference.decides:
        verdict = "cannot be told apart"
    else:
        verdict = f"{name.split(' ')[0 if difference.mean > 0 else 2]} is better"
    return [name, formats.scale(summary.student_scale), formats.interval(difference), verdict]
