"""What a stage finds while it trains. Nothing here needs torch, so that the live view can import it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate of a supernet, evaluated.

    Attributes:
        scale: The nominal scale.
        parameters: The parameters of its model.
        reference: The value that the metric is divided by in the tradeoff.
        metric: The metric on validation rows.
        se: The metric's standard error.
    """

    scale: float
    parameters: int
    reference: float
    metric: float
    se: float


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
