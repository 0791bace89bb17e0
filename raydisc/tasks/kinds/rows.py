"""The parts of splits and batches that kinds of tasks read.

``Split`` and ``Batch`` know their kind, so that kinds cannot import them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from raydisc.tasks.words import Words


class SplitRows(Protocol):
    """The rows of a split; see ``raydisc.tasks.tokenised.Split``."""

    words: Words | None
    lengths: np.ndarray
    labels: np.ndarray


class BatchRows(Protocol):
    """The rows of a batch; see ``raydisc.tasks.tokenised.Batch``."""

    @property
    def input_ids(self) -> torch.Tensor:
        """Tokens ``[B, S]``."""

    @property
    def labels(self) -> torch.Tensor:
        """Labels ``[L]``, row after row."""

    @property
    def rows(self) -> np.ndarray:
        """Row numbers in the split ``[B]``."""

    @property
    def tagged(self) -> np.ndarray | None:
        """A mask of the tokens that labels belong to ``[B, S]``."""

    @property
    def label_counts(self) -> np.ndarray:
        """Number of labels of each row ``[B]``."""
