"""The comparison condensed: each schedule's selected student over its replicates, its uncertainty, its price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.costs import Cost, total
from raydisc.report.oracle import oracle_paths, oracle_rows
from raydisc.report.rows import Replicate, Row, grouped, preference, ratio
from raydisc.report.schedules import oracle_schedule, reference_label


@dataclass(frozen=True)
class Estimate:
    """A metric averaged over replicates, each by one teacher with one seed.

    Attributes:
        mean: The mean; None where no replicate has the metric.
        sd: Standard deviation over replicates (n - 1); None with one replicate.
        se: Standard error of the mean over the split's examples (bootstrap; the replicates share their examples).
    """

    mean: float | None
    sd: float | None
    se: float | None


@dataclass(frozen=True)
class Summary:
    """One line of the comparison table: a schedule, or one path of a schedule that has several.

    Attributes:
        run: Name of the run.
        task: Name of the task.
        metric: Name of the metric.
        schedule: Name of the schedule or control.
        label: The name with the options by which it differs from others of this name.
        whole: True for the schedule (its selected paths, the cost of all its trials), False for one path alone.
        paths: The different paths behind the line; with ``whole``, what was selected for the replicates.
        tried: Number of trials that the schedule, or the path, has for one replicate.
        student_scale: Nominal scale of the student.
        student_parameters: Parameters of the whole student.
        lam: λ where the schedule has one.
        replicates: The teachers and seeds behind the line.
        validation: The validation metric.
        test: The test metric.
        cost: Search cost averaged over replicates; None where it is not known.
        cost_relative_to_reference: Cost in FLOPs over that of the schedule that the others are measured against, on
            the replicates that both have.
        cost_relative_to_oracle: Cost in FLOPs over the oracle path's own, likewise.
        oracle: Whether the line is the oracle path.
    """

    run: str
    task: str
    metric: str
    schedule: str
    label: str
    whole: bool
    paths: tuple[tuple[float, ...], ...]
    tried: int
    student_scale: float
    student_parameters: int | None
    lam: float | None
    replicates: tuple[Replicate, ...]
    validation: Estimate
    test: Estimate
    cost: Cost | None
    cost_relative_to_reference: float | None
    cost_relative_to_oracle: float | None
    oracle: bool


def summarise(bootstrap: Bootstrap, rows: Sequence[Row]) -> list[Summary]:
    """Condense the rows of ``raydisc.report.compare.comparison``.

    Returns:
        For each run, student scale and schedule (in the rows' order) the schedule's line and, where it tried
        several paths for a replicate, one line for each path.
    """
    summaries = []
    references = {run: reference_label(members) for run, members in grouped(rows, lambda r: r.run).items()}
    for (run, _), members in grouped(rows, lambda r: (r.run, r.student_scale)).items():
        section = _Section(members, references[run], bootstrap)
        for schedule in grouped(members, lambda r: r.label).values():
            tried = max(map(len, grouped(schedule, lambda r: r.replicate).values()))
            selected = sorted((row for row in schedule if row.selected), key=lambda r: (r.teacher_seed or 0, r.seed))
            if selected:
                summaries.append(section.line(selected, whole=True, tried=tried))
            if tried > 1:
                choices = grouped(schedule, lambda r: (r.path, r.lam)).values()
                summaries.extend(_line_of_path(section, same) for same in choices)
    return summaries


def _line_of_path(section: _Section, rows: Sequence[Row]) -> Summary:
    """Return the line of a path, for each replicate the best by validation of the trials that differ in settings."""
    by_replicate = grouped(rows, lambda r: r.replicate).values()
    best = [min(same, key=preference) for same in by_replicate]
    return section.line(best, whole=False, tried=max(map(len, by_replicate)))


class _Section:
    """The rows that the lines of one run and student scale are measured against."""

    def __init__(self, rows: Sequence[Row], reference: str | None, bootstrap: Bootstrap) -> None:
        self.bootstrap = bootstrap
        self.oracle_path = next(iter(oracle_paths(rows).values()), None)
        self.oracle_costs = {row.replicate: row.cost for row in oracle_rows(rows).values()}
        self.reference_costs = {row.replicate: row.schedule_cost for row in rows if row.label == reference}

    def line(self, rows: Sequence[Row], whole: bool, tried: int) -> Summary:
        first = rows[0]
        costs = {row.replicate: row.schedule_cost if whole else row.cost for row in rows}
        return Summary(
            run=first.run,
            task=first.task,
            metric=first.metric,
            schedule=first.schedule,
            label=first.label,
            whole=whole,
            paths=tuple(dict.fromkeys(row.path for row in rows)),
            tried=tried,
            student_scale=first.student_scale,
            student_parameters=first.student_parameters,
            lam=first.lam,
            replicates=tuple(dict.fromkeys(row.replicate for row in rows)),
            validation=self._estimate(rows, "validation"),
            test=self._estimate(rows, "test"),
            cost=mean_cost(costs.values()),
            cost_relative_to_reference=_relative(costs, self.reference_costs),
            cost_relative_to_oracle=_relative(costs, self.oracle_costs),
            oracle=not whole and first.schedule == oracle_schedule() and first.path == self.oracle_path,
        )

    def _estimate(self, rows: Sequence[Row], split: str) -> Estimate:
        test = split == "test"
        measured = [row for row in rows if (row.test_metric if test else row.validation_metric) is not None]
        values = [(row.test_metric if test else row.validation_metric) or 0.0 for row in measured]
        if not measured:
            return Estimate(None, None, None)
        keys = [row.test if test else row.student for row in measured]
        resampled = self.bootstrap.metrics(measured[0].metric, keys, split)
        if resampled is not None:
            se: float | None = float(np.std(resampled.mean(axis=0), ddof=1))
        else:
            # Without predictions only a bound is known: a mean's error is at most the mean of the errors.
            errors = [row.test_se for row in measured if test and row.test_se is not None]
            se = float(np.mean(errors)) if len(errors) == len(measured) else None
        return Estimate(float(np.mean(values)), spread(values), se)


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation with n - 1 degrees of freedom; None for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_cost(costs: Iterable[Cost | None]) -> Cost | None:
    """Return the mean of costs; None where one is unknown or there are no costs."""
    costs = list(costs)
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(costs):
        return None
    summed = total(known)
    n = len(known)
    return Cost(summed.flops / n, summed.device_seconds / n, summed.wall_seconds / n, summed.cpu_seconds / n)


def _relative(costs: dict[Replicate, Cost | None], reference: dict[Replicate, Cost | None]) -> float | None:
    """Mean FLOPs over the reference's mean FLOPs, on the replicates whose costs are known on both sides."""
    pairs = [(cost, reference.get(replicate)) for replicate, cost in costs.items()]
    both = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    return ratio(sum(ours.flops for ours, _ in both), sum(theirs.flops for _, theirs in both)) if both else None
