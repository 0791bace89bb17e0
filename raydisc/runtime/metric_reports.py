"""Reports of a trial's evaluations to Ray Tune, which its schedulers decide by."""

from collections.abc import Callable

from raydisc.runtime.reports import MetricReport
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.executor import StageEvent
from raydisc.stages.facts import EvaluatedFacts
from raydisc.training.progress import Evaluated


class MetricReports:
    """Reports every evaluation of a trial's own stages, each once, and never throttled.

    Evaluations are numbered through the stages of the trial, so that those of a stage that is found, is resumed or is
    computed by another job have the same numbers.

    Args:
        report: Reports to Tune.
        is_ended: Whether a scheduler has ended the trial at an evaluation, given by its number; asked after every
            report, until it has.
    """

    def __init__(self, report: Callable[[MetricReport], None], is_ended: Callable[[int], bool]) -> None:
        """Start with no evaluation reported."""
        self._report, self._is_ended = report, is_ended
        self._before = 0
        self._reported: dict[str, int] = {}
        self._done: set[str] = set()
        self.last: float | None = None
        """The metric of the last report."""
        self.ended = False
        """Whether the trial has been ended."""

    def progress(self, found: StageEvent) -> None:
        """Take an event of a running stage, which may be an evaluation."""
        if isinstance(found.event, Evaluated):
            self._evaluated(found.stage, found.key, found.event.number, found.event.evaluation.metric)

    def finished(self, stage: Stage, artifact: Artifact) -> None:
        """Take a finished stage with all its evaluations, of which some may have been reported."""
        if stage.prepares or artifact.key in self._done:
            return
        metrics = metrics_of(artifact)
        for number, metric in enumerate(metrics, 1):
            self._evaluated(stage.kind, artifact.key, number, metric)
        self._done.add(artifact.key)
        self._before += len(metrics)

    def _evaluated(self, kind: str, key: str, number: int, metric: float) -> None:
        if self.ended or number <= self._reported.get(key, 0) or key in self._done:
            return
        self._reported[key] = number
        self.last = metric
        self._report(MetricReport(kind, key, self._before + number, metric))
        self.ended = self._is_ended(self._before + number)


def metrics_of(artifact: Artifact) -> list[float]:
    """Return the metric of each of a stage's evaluations on validation rows, in order; of candidates their mean."""
    by_step: dict[int | None, list[float]] = {}
    for score in EvaluatedFacts.of(artifact).evaluations:
        if score.split == "validation":
            by_step.setdefault(score.step, []).append(score.metric)
    return [sum(metrics) / len(metrics) for metrics in by_step.values()]
