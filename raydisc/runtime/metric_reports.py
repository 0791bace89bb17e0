"""Reports of a trial's evaluations to Ray Tune, which its schedulers decide by."""

from collections.abc import Callable
from typing import TypeVar

from raydisc.runtime.reports import MetricReport
from raydisc.schedules.steps import Steps
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.executor import StageEvent
from raydisc.stages.facts import EvaluatedFacts
from raydisc.training.progress import Evaluated

Result = TypeVar("Result")


class MetricReports:
    """Reports every evaluation of a trial's own stages, each once, and never throttled.

    Evaluations are numbered through the stages of the trial, so that those of a stage that is found, is resumed or is
    computed by another job have the same numbers.

    Args:
        report: Reports to Tune.
        is_ended: Whether a scheduler has ended the trial at an evaluation, given by its number; asked after every
            report, until it has.
        student_scale: The scale of the trial's student.
    """

    def __init__(
        self,
        report: Callable[[MetricReport], None],
        is_ended: Callable[[int], bool],
        student_scale: float | None = None,
    ) -> None:
        """Start with no evaluation reported."""
        self._report, self._is_ended, self._student_scale = report, is_ended, student_scale
        self._of_student = False
        self._spent = 0.0
        self.flops = 0.0
        """The FLOPs of the trial's own stages until the last evaluation, as if each had been computed here."""
        self.curve: list[tuple[float, float]] = []
        """The evaluations of the student, each with the FLOPs until then."""
        self._before = 0
        self._reported: dict[str, int] = {}
        self._done: set[str] = set()
        self.last: float | None = None
        """The metric of the last report."""
        self.ended = False
        """Whether the trial has been ended."""

    def heard(self, steps: Steps[Result]) -> Steps[Result]:
        """Do the steps of a trial, and note of each stage whether it trains the student."""
        try:
            request = next(steps)
            while True:
                self._of_student = getattr(request, "scale", None) == self._student_scale
                artifact = yield request
                request = steps.send(artifact)
        except StopIteration as end:
            result: Result = end.value
            return result

    def progress(self, found: StageEvent) -> None:
        """Take an event of a running stage, which may be an evaluation."""
        if isinstance(found.event, Evaluated):
            event = found.event
            self._evaluated(found.stage, found.key, event.number, event.evaluation.metric, event.flops)

    def finished(self, stage: Stage, artifact: Artifact) -> None:
        """Take a finished stage with all its evaluations, of which some may have been reported."""
        if stage.prepares or artifact.key in self._done:
            return
        found = evaluations_of(artifact)
        for number, (share, metric) in enumerate(found, 1):
            self._evaluated(stage.kind, artifact.key, number, metric, share * artifact.flops)
        self._done.add(artifact.key)
        self._before += len(found)
        self._spent += artifact.flops

    def _evaluated(self, kind: str, key: str, number: int, metric: float, flops: float) -> None:
        if self.ended or number <= self._reported.get(key, 0) or key in self._done:
            return
        self._reported[key] = number
        self.last, self.flops = metric, self._spent + flops
        if self._of_student:
            self.curve.append((self.flops, metric))
        self._report(MetricReport(kind, key, self._before + number, metric, self.flops, self._of_student))
        self.ended = self._is_ended(self._before + number)


def evaluations_of(artifact: Artifact) -> list[tuple[float, float]]:
    """Return a stage's evaluations on validation rows, in order: its share of the steps, and the metric.

    The metric of candidates is their mean.
    """
    by_step: dict[int | None, list[float]] = {}
    for score in EvaluatedFacts.of(artifact).evaluations:
        if score.split == "validation":
            by_step.setdefault(score.step, []).append(score.metric)
    last = max((step for step in by_step if step is not None), default=1)
    steps = max(last, (artifact.facts or {}).get("steps", last))
    return [(1.0 if step is None else step / steps, sum(metrics) / len(metrics)) for step, metrics in by_step.items()]
