"""The λ-tradeoff as a rule for choosing the assistant, beside rules that need no search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raydisc.report.ledger import Ledger
from raydisc.report.rows import Row, grouped, number, reference
from raydisc.report.schedules import oracle_schedule, reference_schedule
from raydisc.report.uncertainty import kendall
from raydisc.tradeoff import DECIMALS, clip_metric

LEFT_OUT = -1.0
"""The score of a candidate that the search has not measured; it is below every tradeoff and every metric."""


@dataclass(frozen=True)
class Fit:
    """A rule for choosing the assistant, judged by the students through every candidate of the grid.

    Attributes:
        student_scale: Nominal scale of the students.
        rule: Name of the rule.
        best: Share of the replicates in which no candidate has a student with a better test metric than the one that
            the rule chooses.
        regret: The best student's test metric minus that of the student through the chosen candidate, the mean over
            replicates.
        tau: Kendall's τ-b between the rule's order of the candidates and the test metrics of their students, both
            averaged over replicates; None where it is undefined.
        candidates: Number of candidates.
        left_out: Number of candidates that the search has not measured.
        replicates: Number of replicates, each by one teacher with one seed.
    """

    student_scale: float
    rule: str
    best: float
    regret: float
    tau: float | None
    candidates: int
    left_out: int
    replicates: int


@dataclass(frozen=True)
class _Contest:
    """The candidates of one replicate.

    Attributes:
        students: The test metric of the student through each candidate, by the candidate's scale.
        metrics: The validation metric of the candidates that the search has measured, as it enters the tradeoff.
        sizes: The measured scale of these candidates, which enters the tradeoff too.
    """

    students: Mapping[float, float]
    metrics: Mapping[float, float]
    sizes: Mapping[float, float]


_Score = Callable[[_Contest, float], float]
"""Returns the score by which a rule ranks a candidate of this scale."""


def fits(ledger: Ledger, rows: Sequence[Row]) -> list[Fit]:
    """Return how each rule would have chosen, for the students of one run.

    A student scale without both schedules, or with fewer than two candidates, is left out. Only candidates are judged
    that have a path in every replicate.
    """
    found = []
    for (scale, label, lam), chosen in grouped(
        [row for row in rows if row.schedule == reference_schedule() and row.lam is not None and row.supernet],
        lambda r: (r.student_scale, r.label, r.lam),
    ).items():
        by = "" if label == reference_schedule() else f", {label}"
        single = [r for r in rows if (r.student_scale, r.schedule, len(r.path)) == (scale, oracle_schedule(), 1)]
        paths = grouped([row for row in single if row.test_metric is not None], lambda r: r.replicate)
        contests = [_contest(ledger, row, paths[row.replicate]) for row in chosen if row.replicate in paths]
        scales = sorted(set.intersection(*(set(contest.students) for contest in contests))) if contests else []
        if len(scales) > 1:
            found += [_fit(scale, name + by, score, contests, scales) for name, score in _rules(lam).items()]
            found.append(_random(scale, f"random, expected{by}", contests, scales))
    return found


def _rules(lam: float) -> dict[str, _Score]:
    return {
        f"tradeoff, λ = {lam:g}": lambda contest, scale: (
            contest.metrics[scale] + lam * (1.0 - contest.sizes[scale]) if scale in contest.metrics else LEFT_OUT
        ),
        "largest metric": lambda contest, scale: contest.metrics.get(scale, LEFT_OUT),
        "smallest": lambda contest, scale: -scale,
    }


def _contest(ledger: Ledger, row: Row, paths: Sequence[Row]) -> _Contest:
    """Return what is known of the candidates by the row's teacher and with its seed."""
    candidates = ledger.rows("candidates", keys=[row.supernet or ""])
    return _Contest(
        {path.path[0]: path.test_metric or 0.0 for path in paths},
        {c["scale"]: clip_metric((number(c["metric"]) or 0.0) / reference(c)) for c in candidates},
        {c["scale"]: number(c["measured_scale"]) or c["scale"] for c in candidates},
    )


def _fit(student_scale: float, name: str, score: _Score, contests: Sequence[_Contest], scales: Sequence[float]) -> Fit:
    scores = np.round([[score(contest, scale) for scale in scales] for contest in contests], DECIMALS)
    students = _students(contests, scales)
    # scales rise: the first of equals is the smaller scale
    chosen = np.take_along_axis(students, scores.argmax(1, keepdims=True), 1)[:, 0]
    lost = students.max(1) - chosen
    tau = kendall(scores.mean(0).tolist(), students.mean(0).tolist())
    return Fit(student_scale, name, float((lost == 0).mean()), float(lost.mean()), tau, *_counts(contests, scales))


def _random(student_scale: float, name: str, contests: Sequence[_Contest], scales: Sequence[float]) -> Fit:
    """Return what is expected of a choice in which all candidates are equally likely."""
    students = _students(contests, scales)
    lost = students.max(1, keepdims=True) - students
    counts = _counts(contests, scales)
    return Fit(student_scale, name, float((lost == 0).mean()), float(lost.mean()), 0.0, *counts)


def _students(contests: Sequence[_Contest], scales: Sequence[float]) -> np.ndarray:
    """Return the test metric of the student through each candidate, ``[replicates, candidates]``."""
    return np.array([[contest.students[scale] for scale in scales] for contest in contests])


def _counts(contests: Sequence[_Contest], scales: Sequence[float]) -> tuple[int, int, int]:
    left_out = [scale for scale in scales if any(scale not in contest.metrics for contest in contests)]
    return len(scales), len(left_out), len(contests)
