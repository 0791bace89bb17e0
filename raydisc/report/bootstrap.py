"""Metrics of stored predictions on resamples of their examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydisc.report.ledger import Ledger
from raydisc.tasks.metrics import RESAMPLES, resampled_metric
from raydisc.tasks.metrics import metric as named_metric


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

    def metrics(self, name: str, keys: Sequence[str | None], split: str) -> np.ndarray | None:
        """Return the metric of each model on each resample, ``[models, resamples]``; None where one is missing."""
        arms = [arm for arm in (self.metric(name, key, split) for key in keys) if arm is not None]
        return np.stack(arms) if arms and len(arms) == len(keys) else None
