"""Scoring a model: its predictions on a split, their metric and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from raydisc.models.cost import ForwardCost
from raydisc.models.forward import forward
from raydisc.models.precision import Precision
from raydisc.models.structure import Structure
from raydisc.stages.artifact import Artifact
from raydisc.stages.context import Context
from raydisc.stages.facts import TaskFacts
from raydisc.tasks.metrics import metric, standard_error
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.inference import FlopMeter
from raydisc.training.predictions import predict


def score(name: str, predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return a metric and its standard error."""
    measure = metric(name)
    return measure.value(predictions, labels), standard_error(measure, predictions, labels)


@dataclass(frozen=True)
class Judged:
    """An evaluation of a model.

    Attributes:
        metric: The metric.
        se: The metric's standard error.
        predictions: The predictions on each row, as metrics take them: logits ``[N, C]``, losses, or what the metric
            counts in each row of tags.
        flops: The FLOPs that it took.
    """

    metric: float
    se: float
    predictions: np.ndarray
    flops: float


def run_evaluation(model: nn.Module, batches: Sequence[Batch], precision: Precision) -> None:
    """Run a model over batches as evaluations do, for the memory and the time that this takes."""
    with torch.no_grad():
        for batch in batches:
            batch.kind.predictions(forward(model, batch, (), precision).logits, batch)


def judge(
    model: nn.Module,
    cost: ForwardCost,
    structure: Structure,
    split: Split,
    data: Artifact,
    context: Context,
    rows: int | None = None,
) -> Judged:
    """Run a model, at some structure, once over every row of a split of the task; for ``rows`` see ``one_pass``."""
    meter = FlopMeter(cost, structure)
    facts = TaskFacts.of(data)
    predictions = predict(model, split, facts.pad_id, context.one_pass(meter, rows))
    predictions = split.kind.scored(predictions, split, metric(facts.metric), facts.classes)
    return Judged(*score(facts.metric, predictions, split.labels), predictions, meter.flops)
