"""The oracle path: the best of all paths of the grid, which a search can at most find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydisc.report.rows import Replicate, Row, grouped, path_order
from raydisc.report.schedules import oracle_schedule
from raydisc.tradeoff import DECIMALS


def oracle_paths(rows: Sequence[Row]) -> dict[tuple[str, float], tuple[float, ...]]:
    """Return for each run and student scale the oracle path: the one with the best mean validation metric.

    Only paths that finished, with a validation metric, for as many teachers and seeds as any other are compared: a
    mean over fewer is another quantity. Ties: fewer assistants, then the smaller scales.
    """
    paths: dict[tuple[str, float], tuple[float, ...]] = {}
    scored = [r for r in rows if r.schedule == oracle_schedule() and r.validation_metric is not None]
    for group, members in grouped(scored, lambda r: (r.run, r.student_scale)).items():
        by_path = {
            path: [row.validation_metric or 0.0 for row in same]
            for path, same in grouped(members, lambda r: r.path).items()
        }
        most = max(map(len, by_path.values()))
        means = {path: float(np.mean(values)) for path, values in by_path.items() if len(values) == most}
        paths[group] = min(means, key=lambda path: (-round(means[path], DECIMALS), path_order(path)))
    return paths


def oracle_rows(rows: Sequence[Row]) -> dict[tuple[str, float, Replicate], Row]:
    """Return the oracle path's row for each run, student scale, teacher and seed."""
    paths = oracle_paths(rows)
    return {
        (row.run, row.student_scale, row.replicate): row
        for row in rows
        if row.schedule == oracle_schedule() and row.path == paths.get((row.run, row.student_scale))
    }
