"""The differences between schedules that a table compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.intervals import Interval, Paired, simultaneous
from raydisc.report.oracle import oracle_rows
from raydisc.report.rows import Replicate, Row, grouped
from raydisc.report.schedules import control_labels, reference_label

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

    @classmethod
    def of(cls, above: str, rows_above: Sequence[Row], below: str, rows_below: Sequence[Row]) -> Comparison:
        """Return the comparison of the rows of two sides, on the replicates that both have."""
        partner = {row.replicate: row for row in rows_above if row.test_metric is not None}
        pairs = [
            (partner[row.replicate], row)
            for row in rows_below
            if row.replicate in partner and row.test_metric is not None
        ]
        return cls(rows_below[0].student_scale, above, below, tuple(pairs))

    @property
    def replicates(self) -> tuple[Replicate, ...]:
        """The replicates on which the sides are compared."""
        return tuple(below.replicate for _, below in self.pairs)

    def on(self, replicates: Sequence[Replicate]) -> Comparison:
        """Return the comparison on some of its replicates, in this order."""
        by_replicate = dict(zip(self.replicates, self.pairs, strict=True))
        return replace(self, pairs=tuple(by_replicate[replicate] for replicate in replicates))


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

    @classmethod
    def of(cls, comparison: Comparison, interval: Interval) -> Difference:
        """Return the difference that a comparison has come to."""
        return cls(comparison.student_scale, comparison.above, comparison.below, interval)

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
    found = simultaneous([paired(bootstrap, comparison) for comparison in comparisons])
    return [Difference.of(comparison, interval) for comparison, interval in zip(comparisons, found, strict=True)]


def schedules_compared(rows: Sequence[Row]) -> list[Comparison]:
    """Return the comparisons of one run's table.

    Compared are the reference with the other schedules, each schedule with its controls, and the oracle path with all.
    """
    found = []
    reference = reference_label(rows)
    for members in grouped(rows, lambda r: r.student_scale).values():
        oracles = list(oracle_rows(members).values())
        selected = selected_rows(members)
        rivals = _rivals(selected, reference)
        for label, chosen in selected.items():
            above = rivals.get(label, reference)
            if above is not None and above in selected and label != above:
                found.append(Comparison.of(above, selected[above], label, chosen))
            found.append(Comparison.of(ORACLE, oracles, label, chosen))
    return [comparison for comparison in found if comparison.pairs]


def selected_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the selected rows of each schedule, by its label."""
    return grouped([row for row in rows if row.selected], lambda r: r.label)


def _rivals(selected: Mapping[str, Sequence[Row]], reference: str | None) -> dict[str, str]:
    """Return the label of the schedule that a control stands beside, the reference where it is one of several."""
    found: dict[str, str] = {}
    for label in sorted(selected, key=lambda it: it != reference):
        for control in control_labels(selected[label][0]).values():
            found.setdefault(control, label)
    return found


def paired(bootstrap: Bootstrap, comparison: Comparison) -> Paired:
    """Return a difference as it was measured, with resamples where there are predictions."""
    pairs = comparison.pairs
    name = pairs[0][0].metric
    higher = bootstrap.metrics(name, [above.test for above, _ in pairs], "test")
    lower = bootstrap.metrics(name, [below.test for _, below in pairs], "test")
    return Paired(
        np.array([(above.test_metric or 0.0) - (below.test_metric or 0.0) for above, below in pairs]),
        [above.teacher_seed for above, _ in pairs],
        None if higher is None or lower is None else higher - lower,
    )
