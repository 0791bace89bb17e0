"""The comparison as tables: on a terminal, in a pipe, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.conclusion import conclusions, verdict_sheets
from raydisc.report.differences import ORACLE, Difference
from raydisc.report.effects import judge, sentences
from raydisc.report.fronts import front_sheet
from raydisc.report.ledger import Ledger
from raydisc.report.platforms import mixtures
from raydisc.report.rows import FIELDS, Row, grouped
from raydisc.report.rules import Fit, fits
from raydisc.report.schedules import oracle_schedule, reference_label, reference_schedule, title_of
from raydisc.report.stages import run_teacher
from raydisc.report.summary import Summary, summarise
from raydisc.report.table import Sheet, Style, as_markdown, print_lines, print_sheets
from raydisc.tasks.metrics import shown_as


def print_comparison(ledger: Ledger, runs: Sequence[str], file: IO[str] | None = None, plain: bool = False) -> None:
    """Show the comparison of runs: coloured on a terminal, aligned text in a pipe or on ``plain``.

    Raises:
        InputError: The storage knows no such run.
    """
    file = file or sys.stdout
    print_sheets(_sheets(ledger, runs), file, plain)
    print_lines([f"Notice: {notice}." for notice in mixtures(ledger, comparison(ledger, runs))], file)


def comparison_markdown(ledger: Ledger, runs: Sequence[str]) -> str:
    """Return the comparison as Markdown tables.

    Raises:
        InputError: The storage knows no such run.
    """
    notices = [f"Notice: {notice}.\n" for notice in mixtures(ledger, comparison(ledger, runs))]
    return "\n".join([*map(as_markdown, _sheets(ledger, runs)), *notices])


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of ``raydisc.report.compare.compare`` as CSV; a path is a JSON list, the unknown is empty."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "path": json.dumps(row["path"])})
    return stream.getvalue()


def comparison_sheets(bootstrap: Bootstrap, rows: Sequence[Row], summaries: Sequence[Summary]) -> list[Sheet]:
    """Return the comparison table of each run, and below it what it is judged by.

    These are the fronts of searches, the differences, the rules for the assistant, the effects of which there are
    controls, and the conclusion.

    Args:
        bootstrap: The resamples of the predictions in the ledger that the rows come from.
        rows: Of ``raydisc.report.compare.comparison``.
        summaries: The rows condensed, of ``raydisc.report.summary.summarise``.
    """
    ledger = bootstrap.ledger
    sheets = []
    for run, members in grouped(summaries, lambda s: s.run).items():
        sheets.append(_schedules(run, members, run_teacher(ledger, run)))
        of_run = [row for row in rows if row.run == run]
        sheets.append(front_sheet(run, of_run))
        judged = judge(bootstrap, of_run)
        sheets.append(_differences(run, judged.differences, of_run))
        sheets.append(_rules(run, fits(ledger, of_run)))
        sheets += verdict_sheets(run, sentences(judged.effects), conclusions(of_run, judged.effects))
    return [sheet for sheet in sheets if not sheet.is_empty]


def _sheets(ledger: Ledger, runs: Sequence[str]) -> list[Sheet]:
    rows = comparison(ledger, runs)
    bootstrap = Bootstrap(ledger)
    return comparison_sheets(bootstrap, rows, summarise(bootstrap, rows))


def _schedules(run: str, summaries: Sequence[Summary], teacher: Mapping[str, float | None]) -> Sheet:
    unit, size = formats.flop_unit(s.cost.flops if s.cost else None for s in summaries)
    spread = any(s.test.sd is not None for s in summaries)
    shown = shown_as(summaries[0].metric)
    columns = ["<schedule", "<path", "student", "validation", "test", *([shown.name] if shown else []),
               *(["sd"] if spread else []), unit,
               "device s", "wall s", f"× {_reference(summaries)}", "× oracle"]  # fmt: skip
    tested = formats.with_error(teacher["test_metric"], teacher["test_se"])
    several = len({by for s in summaries for by, _ in s.replicates}) > 1
    first = [
        "teachers, on average" if several else "teacher",
        formats.DASH,
        "1",
        formats.decimal(teacher["validation_metric"]),
        tested,
    ]
    if shown:
        first.append(formats.derived(shown, teacher["test_metric"]))
    lines = [first + [formats.DASH] * (len(columns) - len(first))]
    for s in summaries:
        lines.append([
            ("" if s.whole else "  ") + s.label + (f", best of {s.tried}" if s.whole and s.tried > 1 else ""),
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


def _reference(summaries: Sequence[Summary]) -> str:
    """Return the name of what the costs of others are relative to."""
    reference = reference_label(summaries) or reference_schedule()
    return title_of(reference)


def _title(run: str, summaries: Sequence[Summary]) -> str:
    first = summaries[0]
    replicates = [replicate for s in summaries for replicate in s.replicates]
    teachers, seeds = len({teacher for teacher, _ in replicates}), sorted({seed for _, seed in replicates})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"{run}: {first.metric} on {first.task}, {f'{teachers} teachers, ' if teachers > 1 else ''}{named}"


def _style(summary: Summary) -> Style:
    if not summary.whole:
        return "dim"
    return "bold" if summary.schedule == reference_schedule() else ""


def _notes(summaries: Sequence[Summary], spread: bool) -> list[str]:
    several = len({teacher for s in summaries for teacher, _ in s.replicates}) > 1
    notes = [
        "± is the standard error over the split's examples (bootstrap"
        + (f"; seeds share their examples); sd is over {'teachers and ' if several else ''}seeds." if spread else ").")
        + " Costs are those of the search, from the finished teacher to the student, as if the schedule had run alone;"
        + " seconds were measured beside other trials."
    ]
    if any(not s.whole for s in summaries):
        notes.append("Indented lines are one path of a schedule each, at the cost of that path alone.")
    if any(not s.whole and s.tried > 1 for s in summaries):
        notes.append("Of trials that differ in settings alone, a line has the best by validation, at its own cost.")
    if any(s.schedule == oracle_schedule() for s in summaries):
        notes.append(
            f"* The oracle: the {title_of(oracle_schedule())} path with the best validation metric averaged over "
            f"{'teachers and ' if several else ''}seeds, at its own cost."
        )
    return notes


def _differences(run: str, found: Sequence[Difference], rows: Sequence[Row]) -> Sheet:
    """Paired differences of test metrics: the reference against the others, and the oracle path against all."""
    lines = [
        [f"{it.above} − {it.below}", formats.scale(it.student_scale), formats.interval(it.interval), it.verdict]
        for it in found
    ]
    several = len({row.teacher_seed for row in rows}) > 1
    columns = ["<difference in test metric", "student", "mean [95% interval]", "<verdict"]
    title = f"{run}: paired by test example{', teacher' if several else ''} and seed"
    return Sheet(title, columns, lines, notes=_how_judged(found), keys=2)


def _how_judged(found: Sequence[Difference]) -> list[str]:
    notes = []
    if any(it.interval.low is not None for it in found):
        runs, teachers = (max(getattr(it.interval, n) for it in found) for n in ("runs", "teachers"))
        if teachers > 1:
            over = f"test examples and {teachers} teachers, whose runs with several seeds are averaged"
        elif runs > 1:
            over = f"test examples and {runs} seeds; another teacher may give others"
        else:
            over = "test examples alone; another seed or another teacher may give others"
        notes.append(f"With a probability of 95% all intervals of this table hold at once, over {over}.")
    if any(it.above == ORACLE for it in found):
        notes.append("What the oracle path has more than a schedule is the schedule's regret.")
    return notes


def _rules(run: str, found: Sequence[Fit]) -> Sheet:
    """Return how the tradeoff would have chosen the assistant, beside rules that need no search."""
    lines = [
        [
            it.rule,
            formats.scale(it.student_scale),
            formats.share(it.best),
            formats.decimal(it.regret, 4),
            formats.signed(it.tau, 2),
        ]
        for it in found
    ]
    notes = [
        "Best: the share of runs in which no candidate has a better student, by its test metric, than the chosen one; "
        "regret: what the best of these students has more; τ: Kendall's, between a rule's order of all candidates and "
        "their students' test metrics.",
        *dict.fromkeys(map(_judged_by, found)),
    ]
    columns = ["<rule for the assistant", "student", "best", "regret", "τ"]
    return Sheet(f"{run}: the tradeoff beside rules that need no search", columns, lines, notes=notes, keys=2)


def _judged_by(fit: Fit) -> str:
    """Return a sentence on the candidates and runs that a rule was judged by."""
    runs = f"{fit.replicates} run{'s' if fit.replicates > 1 else ''}"
    last = f"; the {fit.left_out} that the search left out rank last by tradeoff and metric" if fit.left_out else ""
    return f"Student {formats.scale(fit.student_scale)}: {fit.candidates} candidates in {runs}{last}."
