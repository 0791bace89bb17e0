"""The crashes of trials that count. Import this inside a ``ray_session``: Ray reads its settings when imported."""

from typing import Any

from raydisc.runtime.callbacks.base import Watcher
from raydisc.runtime.ray_internals import forget_failures
from raydisc.runtime.reports import MetricReport, from_result
from raydisc.stages.executor import StageEvent

CRASHES_FORGIVEN = 2
"""The crashes of one trial that are forgiven while it gets no further; one more is more likely its own fault."""


class Forgiveness(Watcher):
    """Forgets a trial's crashes once it is further than it was before: on spot nodes any long trial is killed often."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._furthest: dict[str, tuple[int, int]] = {}
        self._stages: dict[str, list[str]] = {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Take the report of a stage; stages are numbered as they come, for the first time or again."""
        report = from_result(result)
        if not isinstance(report, StageEvent | MetricReport):  # its end, or an artifact that was altered
            return
        stages = self._stages.setdefault(trial.trial_id, [])
        if report.key not in stages:
            stages.append(report.key)
        step = report.step if isinstance(report, StageEvent) else None
        here = (stages.index(report.key), step or 0)
        if here > self._furthest.get(trial.trial_id, (-1, 0)):
            self._furthest[trial.trial_id] = here
            forget_failures(trial)
