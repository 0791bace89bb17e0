"""The differences between schedules that a table compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.intervals import Interval, Paired, simultaneous
from raydisc.report.oracle import oracle_rows
from raydisc.report.rows import Row, grouped
from raydisc.report.schedules import reference_label

ORACLE = "oracle"
"""The name of the oracle path in differences."""


@dataclass(frozen=True)
class Comparison:
    """Two sides that are compared.

    Attributes:
        student_scale: Nominal scale of the students.
        above: Name of the side that is subtracted from.
        below: Name of the side that is subtracted.
        pairs: A row of each side, by the same teacher and with the same seed; both have a test metric.
    """

    student_scale: float
    above: str
    below: str
    pairs: tuple[tuple[Row, Row], ...]


@dataclass(frozen=True)
class Difference:
    """The difference between two sides in the test metric.

    Attributes:
        student_scale: Nominal scale of the students.
        above: Name of the side that is subtracted from.
        below: Name of the side that is subtracted.
        interval: The difference with its interval, which holds together with those of the same table.
    """

    student_scale: float
    above: str
    below: str
    interval: Interval

    @property
    def verdict(self) -> str:
        """The words for what the interval shows, no more than its replicates allow."""
        found = self.interval
        if found.low is None:
            return "no interval without predictions"
        if found.is_certain:
            return "the same on every resample"
        if not found.decides:
            return "cannot be told apart"
        better = self.above if found.mean > 0 else self.below
        if found.runs == 1:
            return f"{better} is ahead on these test rows, with this teacher"
        return f"{better} is better" + (" with this teacher" if found.teachers == 1 else "")


def differences(bootstrap: Bootstrap, comparisons: Sequence[Comparison]) -> list[Difference]:
    """Return the differences of one table, whose intervals hold at the same time."""
    found = simultaneous([_paired(bootstrap, comparison) for comparison in comparisons])
    return [
        Difference(it.student_scale, it.above, it.below, interval)
        for it, interval in zip(comparisons, found, strict=True)
    ]


def schedules_compared(rows: Sequence[Row]) -> list[Comparison]:
    """Return the comparisons of one run's table: of the reference and of the oracle path with all schedules."""
    found = []
    reference = reference_label(rows)
    for members in grouped(rows, lambda r: r.student_scale).values():
        oracles = list(oracle_rows(members).values())
        selected = grouped([row for row in members if row.selected], lambda r: r.label)
        for label, chosen in selected.items():
            if reference is not None and reference in selected and label != reference:
                found.append(_comparison(reference, selected[reference], label, chosen))
            found.append(_comparison(ORACLE, oracles, label, chosen))
    return [comparison for comparison in found if comparison.pairs]


def _comparison(above: str, rows_above: Sequence[Row], below: str, rows_below: Sequence[Row]) -> Comparison:
    partner = {row.replicate: row for row in rows_above if row.test_metric is not None}
    pairs = [
        (partner[row.replicate], row) for row in rows_below if row.replicate in partner and row.test_metric is not None
    ]
    return Comparison(rows_below[0].student_scale, above, below, tuple(pairs))


def _paired(bootstrap: Bootstrap, comparison: Comparison) -> Paired:
    pairs = comparison.pairs
    name = pairs[0][0].metric
    higher = bootstrap.metrics(name, [above.test for above, _ in pairs], "test")
    lower = bootstrap.metrics(name, [below.test for _, below in pairs], "test")
    return Paired(
        np.array([(above.test_metric or 0.0) - (below.test_metric or 0.0) for above, below in pairs]),
        [above.teacher_seed for above, _ in pairs],
        None if higher is None or lower is None else higher - lower,
    )
