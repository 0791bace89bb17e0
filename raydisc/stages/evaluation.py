"""Scoring predictions, and the stage that reads the test split once."""

from typing import Any

import numpy as np

from raydisc.distillation.predict import predict
from raydisc.models.cost import ForwardCost
from raydisc.models.dense import load_frozen
from raydisc.stages.context import (
    EVALUATION_BATCH,
    Context,
    FlopMeter,
    Result,
    prediction_table,
    read_split,
    read_weights,
    table_blob,
)
from raydisc.stages.requests import Evaluate, Model
from raydisc.tasks.metrics import metric, standard_error


def score(name: str, predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The metric and its standard error, as an evaluation's ``metric`` and ``se``."""
    judge = metric(name)
    return {"metric": judge.value(predictions, labels), "se": standard_error(judge, predictions, labels)}


def compute_evaluate(request: Evaluate, context: Context) -> Result:
    """Predict every test row with the finished student."""
    weights = read_weights(context.store, Model(request.student))
    model = load_frozen(weights.config, weights.widths, weights.state).to(context.device)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.widths)
    split = read_split(context.store, request.data, "test")
    predictions = predict(model, split, request.data["pad_id"], EVALUATION_BATCH, meter, context.precision)
    found = {"step": None, "split": "test", **score(request.data["metric"], predictions, split.labels)}
    blobs = {"predictions.arrow": table_blob(prediction_table({None: predictions}, split.labels, "test"))}
    return Result({"evaluations": [found]}, meter.flops, blobs)
