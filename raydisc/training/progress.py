"""What a running stage reports. Nothing here needs torch, so that the live view can import it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate of a supernet, evaluated.

    Attributes:
        scale: The nominal scale.
        measured_scale: The share of the prunable parameters that it has.
        parameters: The parameters of its model.
        reference: The value that the metric is divided by in the tradeoff.
        metric: The metric on validation rows.
        se: The metric's standard error.
    """

    scale: float
    measured_scale: float
    parameters: int
    reference: float
    metric: float
    se: float

    @property
    def size(self) -> float:
        """The scale that enters the tradeoff."""
        return self.measured_scale


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a stage that trains.

    Attributes:
        step: The step after which it was made.
        metric: The metric on validation rows, which decides on early stopping; of candidates their mean.
        se: The metric's standard error; None where candidates were evaluated.
        candidates: The candidates of a supernet; empty for a stage with one model.
    """

    step: int
    metric: float
    se: float | None = None
    candidates: tuple[ScoredCandidate, ...] = ()


@dataclass(frozen=True)
class StepsDone:
    """The steps that a stage has done.

    Attributes:
        step: Their number.
        steps: The number of all steps; 0 for a stage without steps.
        loss: The loss of the last one; None where it was not read, as reading waits for the device.
    """

    step: int
    steps: int = 0
    loss: float | None = None


@dataclass(frozen=True)
class Evaluated:
    """An evaluation while a stage trains.

    Attributes:
        evaluation: The evaluation.
        number: Its number in the stage, from 1.
        steps: The number of all steps.
        flops: The FLOPs that the stage has executed until then.
    """

    evaluation: Evaluation
    number: int
    steps: int
    flops: float = 0.0


@dataclass(frozen=True)
class Ranked:
    """The candidates of a supernet, as they stand before or after the training.

    Attributes:
        candidates: The candidates.
        step: The number of steps done.
        steps: The number of all steps.
    """

    candidates: tuple[ScoredCandidate, ...]
    step: int
    steps: int


@dataclass(frozen=True)
class Notice:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Alive:
    """A sign that a stage goes on, between two steps or without any."""


Event = StepsDone | Evaluated | Ranked | Notice | Alive
"""What a running stage reports."""

Progress = Callable[[Event], None]
"""Takes the events of a running stage; called at every step, so that it must be cheap."""


def step_of(event: Event) -> int | None:
    """Return the number of steps done that an event reports; None where it reports none."""
    match event:
        case StepsDone(step=step) | Ranked(step=step) | Evaluated(evaluation=Evaluation(step=step)):
            return step
        case _:
            return None
