"""The part of its budget that a run has spent."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from raydisc.config.resources import BudgetConfig
from raydisc.report.ledger import Ledger

_HOUR_S = 3600.0


class Spending:
    """The hours that all drivers of a run have spent, compared with its budget.

    Args:
        budget: The budget of the run.
        ledger: The ledger of the storage.
        run: The name of the run.
        wall_before: The seconds that earlier drivers of the run have spent.
    """

    def __init__(self, budget: BudgetConfig, ledger: Ledger, run: str, wall_before: float) -> None:
        """Start this driver's clock."""
        self._budget, self._ledger, self._run = budget, ledger, run
        self._wall_before, self._begun = wall_before, time.monotonic()
        self._finished: dict[str, float] = {}
        self._broken_off: dict[str, float] = {}
        self._running: dict[str, tuple[str, float, int]] = {}
        self._read()

    @property
    def wall_seconds(self) -> float:
        """The seconds that all drivers of the run have run."""
        return self._wall_before + time.monotonic() - self._begun

    @property
    def device_seconds(self) -> float:
        """The device-seconds of the run's stages: those in the ledger and those of the stages that are running."""
        now = time.monotonic()
        spent = sum(self._finished.values()) + sum(self._broken_off.values())
        running = (it for it in self._running.values() if it[0] not in self._finished)
        return spent + sum((now - since) * devices for _, since, devices in running)

    def runs(self, job: str, key: str, devices: int) -> None:
        """Note that a job runs a stage on a number of devices."""
        if key != self._running.get(job, ("",))[0]:
            self._running[job] = (key, time.monotonic(), devices)
            self._read()

    def ends(self, job: str) -> None:
        """Note that a job has ended."""
        self._running.pop(job, None)
        self._read()

    def is_spent(self) -> bool:
        """Whether the budget of hours is spent."""
        limits = (self._budget.device_hours, self._budget.wall_hours)
        spent = (self.device_seconds, self.wall_seconds)
        return any(limit is not None and it >= limit * _HOUR_S for limit, it in zip(limits, spent, strict=True))

    def _read(self) -> None:
        if self._budget.device_hours is not None:
            rows = self._ledger.rows("stages", latest=False, run=self._run)
            self._finished, self._broken_off = _by_stage(rows)


def _by_stage(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return device-seconds by key of finished stages, earlier attempts included, and of unfinished ones."""
    finished: dict[str, float] = {}
    broken_off: dict[str, float] = {}
    for row in rows:
        if row["state"] == "finished":
            finished[row["key"]] = row["device_seconds"]
        else:
            broken_off[row["key"]] = broken_off.get(row["key"], 0.0) + row["device_seconds"]
    return finished, {key: seconds for key, seconds in broken_off.items() if key not in finished}
