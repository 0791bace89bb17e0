"""Tasks whose rows are text alone: the next token is to be predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from raydisc.errors import InputError
from raydisc.tasks.kinds.base import Answering, TaskKind
from raydisc.tasks.kinds.rows import BatchRows, SplitRows
from raydisc.tasks.labels import Encoded
from raydisc.tasks.metrics import Metric
from raydisc.tasks.source import TaskSource
from raydisc.tasks.tokeniser import pack

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Language(TaskKind):
    """The next token after each token but a row's last; rows are equally long.

    The prediction of a row is the mean loss of its tokens, in nats.
    """

    name = "language"
    head = "language_model"
    text_columns = 1
    labelled = False
    named_classes = False
    over_vocabulary = True
    padded = False
    ignored = frozenset[str]()

    def encode(self, source: TaskSource, metric: Metric) -> Encoded:
        """Return no classes and the texts alone."""
        return (), {split: _texts_only(table) for split, table in source.splits.items()}

    def tokenise(
        self,
        split: pa.Table,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        place: str,
        on_chunk: Callable[[], None],
    ) -> pa.Table:
        """Join the texts and cut them into rows; see the base class."""
        return pack(split, tokenizer, max_length, place, on_chunk)

    def label_total(self, facts: Mapping[str, Any], split: str) -> int | None:
        """Return the number of tokens that are predicted."""
        return int(facts["tokens"][split] - facts["rows"][split])

    def row_label_counts(self, split: SplitRows) -> np.ndarray:
        """Return the number of tokens behind the first one."""
        counts: np.ndarray = split.lengths - 1
        return counts

    def most_labels(self, length: int) -> int:
        """Return one for each token but the first."""
        return length - 1

    def labels(self, split: SplitRows, rows: np.ndarray, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return all tokens but the first of each row."""
        return ids[:, 1:].flatten(), None

    def blank_labels(self, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return all tokens but the first of each row."""
        return ids[:, 1:].flatten(), None

    def label_counts(self, batch: BatchRows) -> np.ndarray:
        """Return the number of tokens behind the first one."""
        return np.full(len(batch.rows), batch.input_ids.shape[1] - 1)

    def inputs(self, batch: BatchRows) -> dict[str, torch.Tensor]:
        """Ask for no logits at the last token of a row, behind which there is nothing to predict."""
        return {"logits_to_keep": torch.arange(batch.input_ids.shape[1] - 1, device=batch.input_ids.device)}

    def labelled_logits(self, logits: torch.Tensor, batch: BatchRows) -> torch.Tensor:
        """Return the logits of all predicted tokens, row after row."""
        return logits.flatten(0, 1)

    def predictions(self, logits: torch.Tensor, batch: BatchRows) -> torch.Tensor:
        """Return the mean loss of each row's tokens ``[B, 1]``."""
        losses = functional.cross_entropy(logits, batch.labels, reduction="none")
        return losses.view(len(batch.rows), batch.input_ids.shape[1] - 1).mean(dim=1, keepdim=True)

    def reference(self, teacher_metric: float) -> float:
        """Return the teacher's metric, since likelihoods lie near 0; 1 for a teacher without any likelihood."""
        return teacher_metric if teacher_metric > 0 else 1.0

    def answering(self, student: str, glue: str | None) -> Answering:
        """Refuse: a language model labels nothing."""
        raise InputError(
            f"'{student}' is a language model, which cannot label a file; load it with raydisc.load_student(...) to "
            "generate text"
        )


def _texts_only(table: pa.Table) -> pa.Table:
    return table.select([name for name in table.column_names if name != "label"])


LANGUAGE = Language()
