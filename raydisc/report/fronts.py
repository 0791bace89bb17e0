"""The front of a schedule's trials: those to which no other is preferable both in its metric and in its FLOPs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from raydisc.report import formats
from raydisc.report.rows import Row, grouped, preference
from raydisc.report.schedules import has_fronts
from raydisc.report.table import Sheet, Style


def with_fronts(rows: Sequence[Row]) -> list[Row]:
    """Mark the rows on the front of each run × schedule × teacher × seed × student scale.

    A row is on it where no other has at least its validation metric for at most its FLOPs; of equal ones the preferred
    row is on it. The FLOPs are the search cost of the row's path alone. A row without either is on no front.
    """
    found = set()
    for members in grouped(rows, lambda r: (r.run, r.label, r.replicate, r.student_scale)).values():
        best: float | None = None
        for row in sorted(members, key=lambda r: (_flops(r), preference(r))):
            metric = row.validation_metric
            if row.cost is not None and metric is not None and (best is None or metric > best):
                best = metric
                found.add(row)
    return [dataclasses.replace(row, on_front=row in found) for row in rows]


def front_sheet(run: str, rows: Sequence[Row]) -> Sheet:
    """Return the fronts of a run's searches, each from its dearest trial on; empty where it has no search.

    Args:
        run: Name of the run.
        rows: Of ``raydisc.report.compare.comparison``, of this run.
    """
    searched = [row for row in rows if has_fronts(row.schedule)]
    shown: list[Row] = []
    for members in grouped(searched, lambda r: (r.student_scale, r.label, r.replicate)).values():
        shown += sorted((row for row in members if row.on_front), key=lambda r: -_flops(r))
    unit, size = formats.flop_unit(_flops(row) for row in shown)
    lines = [
        [
            row.label,
            formats.scale(row.student_scale),
            formats.replicate(*row.replicate),
            formats.path(row.path),
            formats.decimal(row.validation_metric),
            formats.with_error(row.test_metric, row.test_se),
            formats.significant(_flops(row) / size),
            row.trial,
        ]
        for row in shown
    ]
    styles: list[Style] = ["bold" if row.selected else "" for row in shown]
    notes = [
        "On the front are the trials of a search to which no other, by the same teacher and with the same seed, is "
        "preferable: as good by validation for fewer FLOPs, or better for as many. The first of each front is the best "
        "by validation. FLOPs are the search cost of the trial alone."
    ]
    columns = ["<search", "student", "<by", "<path", "validation", "test", unit, "<trial"]
    return Sheet(f"{run}: fronts of metric and FLOPs", columns, lines, styles, notes, keys=2)


def _flops(row: Row) -> float:
    return row.cost.flops if row.cost else float("inf")
