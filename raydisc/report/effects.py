"""The effects that the controls of a schedule tell apart, estimated on test rows and told in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.differences import Comparison, Difference, paired, schedules_compared, selected_rows
from raydisc.report.intervals import Interval, Paired, simultaneous
from raydisc.report.rows import Row, grouped
from raydisc.report.schedules import control_labels
from raydisc.schedules.effects import EFFECTS, Effect


@dataclass(frozen=True)
class EstimatedEffect:
    """An effect with its estimate.

    Attributes:
        student_scale: Nominal scale of the students.
        label: The schedule beside which the controls stand.
        effect: What differs.
        metric: Name of the metric.
        interval: The effect with its interval, which holds together with those of the same table.
        each: The differences that estimate it; where there are two, the effect is their mean over common replicates.
    """

    student_scale: float
    label: str
    effect: Effect
    metric: str
    interval: Interval
    each: tuple[Difference, ...]

    @property
    def sentence(self) -> str:
        """The estimate in words, no stronger than its replicates allow."""
        found = self.interval
        measured = [f"{it.above} − {it.below}" for it in self.each]
        if len(self.each) > 1:
            measured = [f"{name} {formats.points(it.interval)}" for name, it in zip(measured, self.each, strict=True)]
        how = [f"the mean of {formats.listed(measured)}" if len(measured) > 1 else measured[0], replicates(found)]
        if found.low is not None:
            how.append("simultaneous 95%")
        changes = f"{self.effect.words} changes test {self.metric} by {formats.points(found, ' points')}"
        return f"{changes} ({'; '.join(how)}){_reservation(found)}."

    def public(self) -> dict[str, Any]:
        """Return the effect as ``raydisc show --json`` gives it; metrics in their own unit, not in points."""
        return {
            "student_scale": self.student_scale, "label": self.label, "effect": self.effect.name,
            **_numbers(self.interval),
            "differences": [{"above": it.above, "below": it.below, **_numbers(it.interval)} for it in self.each],
        }  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """The differences and effects that the test rows of one run show, with intervals that hold at the same time.

    Attributes:
        differences: The lines of the table.
        effects: The effects that these differences estimate.
    """

    differences: tuple[Difference, ...]
    effects: tuple[EstimatedEffect, ...]


@dataclass(frozen=True)
class _Asked:
    """An effect that can be estimated, with the differences that estimate it."""

    label: str
    effect: Effect
    comparisons: tuple[Comparison, ...]


def judge(bootstrap: Bootstrap, rows: Sequence[Row]) -> Judged:
    """Return the differences and the effects of one run.

    Args:
        bootstrap: The resamples of the predictions in the ledger that the rows come from.
        rows: Of ``raydisc.report.compare.comparison``, of one run.
    """
    asked = _asked(rows)
    compared = {(it.student_scale, it.above, it.below): it for it in schedules_compared(rows)}
    for comparison in (it for effect in asked for it in effect.comparisons):
        compared.setdefault((comparison.student_scale, comparison.above, comparison.below), comparison)
    lines = sorted(compared.values(), key=lambda it: -it.student_scale)
    together = [it for it in asked if len(it.comparisons) > 1]
    measured = [paired(bootstrap, it) for it in lines] + [_mean(bootstrap, it.comparisons) for it in together]
    intervals = simultaneous(measured)
    differences = [Difference.of(it, interval) for it, interval in zip(lines, intervals, strict=False)]
    known = {(it.student_scale, it.above, it.below): it for it in differences}
    means = dict(zip(together, intervals[len(lines) :], strict=True))
    return Judged(tuple(differences), tuple(_estimated(it, known, means.get(it)) for it in asked))


def sentences(effects: Sequence[EstimatedEffect]) -> list[str]:
    """Return each effect in words, with the student where there are several."""
    several = len({it.student_scale for it in effects}) > 1
    return [(f"Student {formats.scale(it.student_scale)}: " if several else "") + it.sentence for it in effects]


def replicates(found: Interval) -> str:
    """Return the number of teachers and of seeds that an interval pools."""
    teachers = formats.counted(found.teachers, "teacher")
    if found.runs % found.teachers:
        return f"{teachers}, {found.runs} runs"
    return f"{teachers} × {formats.counted(found.runs // found.teachers, 'seed')}"


def scope(found: Interval) -> str:
    """Return the words that say where a difference was seen, with the space before them; nothing for several teachers.

    They are no more general than the replicates are.
    """
    if found.teachers > 1:
        return ""
    return " on these test rows, with this teacher" if found.runs == 1 else " with this teacher"


def _asked(rows: Sequence[Row]) -> list[_Asked]:
    """Return the effects that can be estimated, for each student and each schedule with controls."""
    found = []
    for members in grouped(rows, lambda r: r.student_scale).values():
        selected = selected_rows(members)
        for label, chosen in selected.items():
            controls = control_labels(chosen[0])
            for effect in EFFECTS:
                sides = [
                    (controls.get(it.above) if it.above else label, controls.get(it.below)) for it in effect.contrasts
                ]
                known = [
                    Comparison.of(above, selected[above], below, selected[below])
                    for above, below in sides
                    if above in selected and below in selected
                ]
                comparisons = tuple(comparison for comparison in known if comparison.pairs)
                if comparisons:
                    found.append(_Asked(label, effect, _in_common(comparisons)))
    return found


def _in_common(comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """Return several comparisons, or the first alone where no replicate is in all of them."""
    shared = set.intersection(*(set(it.replicates) for it in comparisons))
    return comparisons if shared else comparisons[:1]


def _mean(bootstrap: Bootstrap, comparisons: Sequence[Comparison]) -> Paired:
    """Return the mean of several differences on the replicates that all of them have."""
    shared = set.intersection(*(set(it.replicates) for it in comparisons))
    order = [replicate for replicate in comparisons[0].replicates if replicate in shared]
    parts = [paired(bootstrap, it.on(order)) for it in comparisons]
    resampled = [it.resampled for it in parts if it.resampled is not None]
    return Paired(
        np.mean([it.values for it in parts], axis=0),
        parts[0].teachers,
        np.mean(resampled, axis=0) if len(resampled) == len(parts) else None,
    )


def _estimated(
    asked: _Asked, known: Mapping[tuple[float, str, str], Difference], mean: Interval | None
) -> EstimatedEffect:
    first = asked.comparisons[0]
    each = tuple(known[it.student_scale, it.above, it.below] for it in asked.comparisons)
    metric = first.pairs[0][0].metric
    return EstimatedEffect(first.student_scale, asked.label, asked.effect, metric, mean or each[0].interval, each)


def _numbers(found: Interval) -> dict[str, float | int | None]:
    return {
        "mean": found.mean, "low": found.low, "high": found.high, "teachers": found.teachers, "runs": found.runs,
    }  # fmt: skip


def _reservation(found: Interval) -> str:
    """Return what the interval does not carry, as the end of a sentence."""
    if found.low is None:
        return ", without predictions and so without an interval"
    if found.is_certain:
        return ": the same on every resample"
    return scope(found) if found.decides else ", which cannot be told apart from none"
