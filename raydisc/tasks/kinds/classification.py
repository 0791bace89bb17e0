"""Tasks whose rows each belong to a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raydisc.tasks.kinds.base import Answering, TaskKind
from raydisc.tasks.kinds.rows import SplitRows
from raydisc.tasks.labels import Encoded, check_present, encode_classes
from raydisc.tasks.metrics import Metric
from raydisc.tasks.source import TaskSource


class Classification(TaskKind):
    """One class for each row; labels are class indices."""

    name = "classification"

    def encode(self, source: TaskSource, metric: Metric) -> Encoded:
        """Encode labels as class indices; see the base class."""
        check_present(source)
        return encode_classes(source, metric)

    def answering(self, student: str, glue: str | None) -> Answering:
        """Return the function that gives the likeliest class of each row and its probability."""
        return _answers


def _answers(logits: np.ndarray, texts: pa.Table, split: SplitRows, classes: Sequence[str]) -> pa.Table:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    labels = [classes[index] for index in logits.argmax(axis=1)]
    return pa.table({"label": labels, "probability": probabilities.max(axis=1)})


CLASSIFICATION = Classification()
