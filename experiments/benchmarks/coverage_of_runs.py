"""How often intervals from a part of a run's teachers hold the mean over its other teachers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raydisc.errors import InputError
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.differences import paired, schedules_compared
from raydisc.report.intervals import LEVEL, Paired, simultaneous
from raydisc.report.ledger import Ledger
from raydisc.report.rows import grouped
from raydisc.report.table import Sheet

FEWEST = 3
"""The fewest teachers: two for an interval with a spread, one to hold."""


@dataclass(frozen=True)
class Part:
    """A difference as a part of the teachers shows it, beside the others.

    Attributes:
        teachers: The number of teachers in the part.
        others: The number of the others.
        holds: Whether the interval from the part holds the mean over the others.
        half_width: Half the width of the interval, in points.
    """

    teachers: int
    others: int
    holds: bool
    half_width: float


def expected(teachers: int, others: int) -> float:
    """Return how often an interval of exactly 95% holds the mean over the others, if teachers are all that varies.

    The mean over the others varies as well, so that this is less than 95%: the difference of the two means over its
    estimated error has Student's distribution with one degree of freedom less than the part has teachers.
    """
    quantile = float(stats.t.isf((1.0 - LEVEL) / 2, teachers - 1))
    return 1.0 - 2.0 * float(stats.t.sf(quantile / math.sqrt(1.0 + teachers / others), teachers - 1))


def parts_of(difference: Paired) -> Iterator[Part]:
    """Yield every part of at least two teachers beside the others.

    Args:
        difference: A difference with predictions.
    """
    assert difference.resampled is not None
    weights = difference.membership
    values, resampled = weights @ difference.values, weights @ difference.resampled
    every = range(len(values))
    for count in range(2, len(values)):
        for part in map(list, itertools.combinations(every, count)):
            others = [teacher for teacher in every if teacher not in part]
            [found] = simultaneous([Paired(values[part], part, resampled[part])])
            assert found.low is not None
            assert found.high is not None
            holds = found.low <= float(values[others].mean()) <= found.high
            yield Part(count, len(others), holds, 100 * (found.high - found.mean))


def differences_of(ledger: Ledger, run: str) -> list[Paired]:
    """Return the differences of a run's table that at least three teachers have, and that are not 0 by construction.

    Raises:
        InputError: There is no such run, or it has no such difference.
    """
    bootstrap = Bootstrap(ledger)
    found = [paired(bootstrap, it) for it in schedules_compared(comparison(ledger, [run]))]
    known = [it for it in found if len(set(it.teachers)) >= FEWEST and it.resampled is not None and it.resampled.any()]
    if not known:
        most = max((len(set(it.teachers)) for it in found), default=0)
        raise InputError(
            f"run {run}: its differences are of {most} teacher(s) with predictions; to hold intervals from some "
            f"teachers against others it takes {FEWEST} or more (teacher.seeds)"
        )
    return known


def sheet_of_run(ledger: Ledger, run: str) -> Sheet:
    """Return how often intervals from a part of the teachers hold the mean over the others, by the size of the part.

    Raises:
        InputError: There is no such run, or it has too few teachers.
    """
    differences = differences_of(ledger, run)
    parts = [part for difference in differences for part in parts_of(difference)]
    lines = [
        [
            f"{teachers}",
            f"{others}",
            f"{len(found)}",
            f"{np.mean([it.holds for it in found]):.3f}",
            f"{expected(teachers, others):.3f}",
            f"{np.mean([it.half_width for it in found]):.2f}",
        ]
        for (teachers, others), found in sorted(grouped(parts, lambda it: (it.teachers, it.others)).items())
    ]
    columns = ["teachers", "others", "intervals", "hold the others' mean", "expected", "half-width (points)"]
    title = f"{run}: {len(differences)} differences, each interval by itself, from every part of the teachers"
    return Sheet(title, columns, lines, notes=LIMITS, keys=2)


LIMITS: Sequence[str] = (
    "Expected: of intervals of exactly 95%, if teachers are all that varies. It is less than 95%, since the mean over "
    "the others varies as well. Intervals that may not be narrower than the noise of the examples hold more often.",
    "Parts of the same teachers overlap and differences have schedules in common, so that the shares rest on few "
    "independent facts and have no standard error. All teachers are judged on the same test rows: how intervals cover "
    "the noise of examples is seen in the simulation alone.",
)
