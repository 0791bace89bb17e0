"""The oracle path, and paired differences between schedules (regret is one) with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydisc.report.ledger import Ledger
from raydisc.report.rows import Row, grouped, path_order
from raydisc.report.schedules import oracle_schedule
from raydisc.tasks.metrics import RESAMPLES, resampled_metric
from raydisc.tasks.metrics import metric as named_metric
from raydisc.tradeoff import DECIMALS


@dataclass(frozen=True)
class Interval:
    """A difference with its 95% interval.

    Attributes:
        mean: The difference, averaged over seeds.
        low: 2.5% quantile over resamples of the test examples; None without predictions.
        high: 97.5% quantile.
        seeds: How many seeds it pools.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def decides(self) -> bool:
        """Whether the interval leaves out 0, that is, whether the data tell the two apart."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


class Bootstrap:
    """Metrics of stored predictions on resamples of their examples, the same resamples for all models."""

    def __init__(self, ledger: Ledger, resamples: int = RESAMPLES, seed: int = 0) -> None:
        """Read predictions from the ledger; the resamples are drawn with this seed."""
        self.ledger, self.resamples, self.seed = ledger, resamples, seed
        self._known: dict[tuple[str, str, str], np.ndarray | None] = {}

    def metric(self, name: str, key: str | None, split: str) -> np.ndarray | None:
        """Return the metric of one model on each resample, ``[resamples]``; None without stored predictions."""
        if key is None:
            return None
        if (name, key, split) not in self._known:
            stored = self.ledger.predictions(key, split)
            self._known[name, key, split] = (
                None if stored is None else resampled_metric(named_metric(name), *stored, self.resamples, self.seed)
            )
        return self._known[name, key, split]

    def mean(self, name: str, keys: Sequence[str | None], split: str) -> np.ndarray | None:
        """Return the mean over models (one per seed) of the metric on each resample; None without predictions."""
        arms = self._arms(name, keys, split)
        return None if arms is None else np.asarray(arms.mean(axis=0))

    def mean_of_drawn_seeds(self, name: str, keys: Sequence[str | None], split: str) -> np.ndarray | None:
        """Return the mean where each resample draws the seeds too, the same for every schedule with as many seeds.

        The interval of a difference thus includes the spread over seeds, as far as few seeds show it.
        """
        arms = self._arms(name, keys, split)
        if arms is None:
            return None
        drawn = np.random.default_rng([self.seed, len(arms)]).integers(0, len(arms), (len(arms), self.resamples))
        mean: np.ndarray = np.take_along_axis(arms, drawn, axis=0).mean(axis=0)
        return mean

    def _arms(self, name: str, keys: Sequence[str | None], split: str) -> np.ndarray | None:
        """Return each model's metric on each resample, ``[seeds, resamples]``; None where one lacks predictions."""
        arms = [arm for arm in (self.metric(name, key, split) for key in keys) if arm is not None]
        return np.stack(arms) if arms and len(arms) == len(keys) else None


def oracle_paths(rows: Sequence[Row]) -> dict[tuple[str, float], tuple[float, ...]]:
    """Return for each run and student scale the oracle path: the one with the best validation metric over seeds.

    Only paths that finished, with a validation metric, for as many seeds as any other are compared: a mean
    over fewer seeds is another quantity. Ties: fewer assistants, then the smaller scales.
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


def oracle_rows(rows: Sequence[Row]) -> dict[tuple[str, float, int], Row]:
    """Return the oracle path's row for each run, student scale and seed."""
    paths = oracle_paths(rows)
    return {
        (row.run, row.student_scale, row.seed): row
        for row in rows
        if row.schedule == oracle_schedule() and row.path == paths.get((row.run, row.student_scale))
    }


def paired_difference(bootstrap: Bootstrap, above: Sequence[Row], below: Sequence[Row]) -> Interval | None:
    """Test metric of the rows above minus that of the rows below, averaged over the seeds that both have.

    With the oracle path above, this is the regret of what is below. The interval is a paired bootstrap over test
    examples and seeds: a resample is the same for both sides. Few seeds understate how much seeds differ.

    Args:
        bootstrap: Gives metrics on resamples.
        above: Rows of one run and student scale, one per seed.
        below: Likewise.

    Returns:
        None where no seed has both test metrics.
    """
    partner = {row.seed: row for row in above}
    pairs = [(partner[row.seed], row) for row in below if row.seed in partner]
    known = [
        (a, b, a.test_metric - b.test_metric)
        for a, b in pairs
        if a.test_metric is not None and b.test_metric is not None
    ]
    if not known:
        return None
    name = known[0][0].metric
    higher = bootstrap.mean_of_drawn_seeds(name, [a.test for a, _, _ in known], "test")
    lower = bootstrap.mean_of_drawn_seeds(name, [b.test for _, b, _ in known], "test")
    low = high = None
    if higher is not None and lower is not None:
        low, high = (float(q) for q in np.percentile(higher - lower, [2.5, 97.5]))
    return Interval(float(np.mean([difference for *_, difference in known])), low, high, len(known))
