"""Reports of jobs to Ray Tune: records on both sides, and plain dictionaries only between them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from raydisc.runs.proposals import Curve
from raydisc.stages.executor import StageEvent
from raydisc.training.progress import Alive, Evaluated, Evaluation, Event, Notice, Ranked, StepsDone


@dataclass(frozen=True)
class MetricReport:
    """An evaluation of a trial, which Tune's schedulers decide by.

    Attributes:
        stage: The kind of the stage.
        key: The key of the stage.
        evaluation: The number of the evaluation in the trial, from 1.
        metric: The metric on validation rows; of candidates their mean.
        flops: The FLOPs of the trial's own stages until then.
        of_student: Whether it is the student that was evaluated.
    """

    stage: str
    key: str
    evaluation: int
    metric: float
    flops: float = 0.0
    of_student: bool = False


@dataclass(frozen=True)
class AlteredFound:
    """A job has met an altered artifact, which is computed again; it runs no stage meanwhile.

    Attributes:
        key: The key of the artifact.
        notice: A sentence for the user; None where another job computes it again.
    """

    key: str
    notice: str | None = None


@dataclass(frozen=True)
class JobStopped:
    """A job has stopped as it was asked to; the message says where."""

    message: str


@dataclass(frozen=True)
class JobEnded:
    """A job has ended.

    Attributes:
        message: The result for people.
        metric: The validation metric of the trial's student, or of its last evaluation.
        stopped_early: Whether the scheduler of trials has ended the trial.
        failure: Why it failed; None where it did not.
        flops: The FLOPs of the trial's own stages, as far as it went.
        curve: The evaluations of its student, each with the FLOPs until then.
    """

    message: str = ""
    metric: float | None = None
    stopped_early: bool = False
    failure: str | None = None
    flops: float | None = None
    curve: Curve = ()


Report = StageEvent | MetricReport | AlteredFound | JobStopped | JobEnded
"""What a job reports to Tune."""

_EVENTS: dict[str, type[Event]] = {
    "steps": StepsDone,
    "evaluation": Evaluated,
    "candidates": Ranked,
    "notice": Notice,
    "alive": Alive,
}
_REPORTS: dict[str, type[Report]] = {
    "metric": MetricReport,
    "altered": AlteredFound,
    "stopped": JobStopped,
    "ended": JobEnded,
}
_NAMES = {kind: name for name, kind in (_EVENTS | _REPORTS).items()}

R = TypeVar("R")


def to_result(report: Report) -> dict[str, Any]:
    """Return a report as Tune takes it; ``report`` says what it is.

    There is no dictionary within it, since schedulers and searchers get results that Tune has flattened.
    """
    if not isinstance(report, StageEvent):
        return {"report": _NAMES[type(report)], **asdict(report)}
    event = asdict(report.event)
    event |= event.pop("evaluation", {})
    return {"report": _NAMES[type(report.event)], "stage": report.stage, "key": report.key, **event}


def from_result(result: Mapping[str, Any]) -> Report:
    """Return the report in a result of Tune, which adds entries of its own."""
    name = result["report"]
    if name not in _EVENTS:
        return _read(_REPORTS[name], result)
    return StageEvent(result["stage"], result["key"], _event(_EVENTS[name], result))


def _event(kind: type[Event], result: Mapping[str, Any]) -> Event:
    if kind is Evaluated:
        return Evaluated(_read(Evaluation, result), result["number"], result["steps"], result["flops"])
    return _read(kind, result)


def _read(kind: type[R], result: Mapping[str, Any]) -> R:
    found: R = _reader(kind).validate_python({item.name: result[item.name] for item in fields(kind)})  # type: ignore
    return found


@cache
def _reader(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
