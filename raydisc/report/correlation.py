"""The rank correlation between the λ-tradeoff of an assistant and the metric of the student distilled through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydisc.report.ledger import Ledger
from raydisc.report.rows import Row, grouped, reference
from raydisc.report.schedules import oracle_schedule, reference_schedule
from raydisc.report.uncertainty import kendall
from raydisc.tradeoff import tradeoff


@dataclass(frozen=True)
class Correlation:
    """The rank correlation between the tradeoff of assistants and the metric of their students.

    Attributes:
        run: Name of the run.
        student_scale: Nominal scale of the students.
        lam: λ of the tradeoff.
        tau: Kendall's τ-b between a candidate's tradeoff and the test metric of the student distilled through it.
        p: Two-sided p-value of no association.
        scales: Number of candidates compared.
        seeds: Number of seeds that both sides are averaged over.
    """

    run: str
    student_scale: float
    lam: float
    tau: float
    p: float
    scales: int
    seeds: int


def correlations(ledger: Ledger, rows: Sequence[Row]) -> list[Correlation]:
    """Return Kendall's τ between a candidate's λ-tradeoff and the test metric of the student distilled through it.

    Both sides are averaged over the seeds that have a supernet and every path with one assistant. A run without both
    schedules, or with fewer than two candidates, is left out.
    """
    found = []
    for (run, student_scale, lam), chosen in grouped(
        [row for row in rows if row.schedule == reference_schedule() and row.lam is not None and row.supernet],
        lambda r: (r.run, r.student_scale, r.lam),
    ).items():
        paths = [
            row
            for row in rows
            if (row.run, row.student_scale, row.schedule, len(row.path)) == (run, student_scale, oracle_schedule(), 1)
        ]
        by_seed = {row.seed: row for row in chosen}
        pairs = [_pairs(ledger, row, [p for p in paths if p.seed == seed]) for seed, row in by_seed.items()]
        pairs = [by_scale for by_scale in pairs if by_scale]
        scales = sorted(set(pairs[0]).intersection(*pairs[1:])) if pairs else []
        means = [np.mean([by_scale[scale] for by_scale in pairs], axis=0) for scale in scales]
        result = kendall([float(mean[0]) for mean in means], [float(mean[1]) for mean in means])
        if result is not None:
            found.append(Correlation(run, student_scale, lam, *result, scales=len(scales), seeds=len(pairs)))
    return found


def _pairs(ledger: Ledger, row: Row, paths: Sequence[Row]) -> dict[float, tuple[float, float]]:
    """Return for one seed, by scale, the tradeoff in the row's supernet and the test metric of the student."""
    tradeoffs = {
        c["scale"]: tradeoff(
            float("nan") if c["metric"] is None else c["metric"], c["scale"], row.lam or 0.0, reference(c)
        )
        for c in ledger.rows("candidates", keys=[row.supernet or ""])
    }
    return {
        path.path[0]: (tradeoffs[path.path[0]], path.test_metric)
        for path in paths
        if path.path[0] in tradeoffs and path.test_metric is not None
    }
