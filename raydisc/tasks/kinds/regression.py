"""Tasks whose rows each have a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from raydisc.tasks.kinds.base import Answering, TaskKind
from raydisc.tasks.kinds.rows import SplitRows
from raydisc.tasks.labels import Encoded, check_present, encode_numbers
from raydisc.tasks.metrics import Metric
from raydisc.tasks.source import TaskSource


class Regression(TaskKind):
    """One number for each row; the loss is the squared error of the only output."""

    name = "regression"
    named_classes = False

    def encode(self, source: TaskSource, metric: Metric) -> Encoded:
        """Convert the labels to float32; see the base class."""
        check_present(source)
        return encode_numbers(source, metric)

    def num_outputs(self, classes: Sequence[str]) -> int:
        """Return 1."""
        return 1

    def blank_labels(self, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return a zero for each row."""
        return torch.zeros(len(ids)), None

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum of squared errors."""
        return (logits.squeeze(-1) - labels).square().sum()

    def answering(self, student: str, glue: str | None) -> Answering:
        """Return the function that gives the number of each row."""
        return _answers


def _answers(numbers: np.ndarray, texts: pa.Table, split: SplitRows, classes: Sequence[str]) -> pa.Table:
    return pa.table({"label": numbers[:, 0]})


REGRESSION = Regression()
