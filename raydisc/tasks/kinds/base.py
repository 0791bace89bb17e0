"""The base of all task kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from raydisc.tasks.kinds.rows import BatchRows, SplitRows
from raydisc.tasks.tokeniser import tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from raydisc.tasks.labels import Encoded
    from raydisc.tasks.metrics import Metric
    from raydisc.tasks.source import TaskSource

Answering = Callable[[np.ndarray, pa.Table, SplitRows, Sequence[str]], pa.Table]
"""A table of answers, from the predictions of every row, the rows as read and as tokens, and the names of classes."""


class TaskKind(ABC):
    """A kind of task: what it asks of a model, and everything that follows from that.

    A kind has no state. The defaults are those of a task with one label for each row.

    Shape letters: N rows of a split, B rows and S tokens of a batch, L labels of a batch, C classes (1 for a number).

    Attributes:
        name: Its name in artifacts and in the cards of students.
        head: Name of the head that a model needs (``raydisc.models.task_heads``).
        text_columns: The most columns that the text of a row may come from.
        words: Whether the text of a row is a list of words.
        labelled: Whether rows come with labels; otherwise the text is what a model has to predict.
        named_classes: Whether the outputs are classes with names.
        over_vocabulary: Whether the outputs are the tokens of the vocabulary, too many to keep them all.
        padded: Whether rows may be of different lengths.
        ignored: Names of settings in the ``distillation`` section that tasks of this kind never read; no key depends on
            their values.
    """

    name: ClassVar[str]
    head: ClassVar[str] = "sequence"
    text_columns: ClassVar[int] = 2
    words: ClassVar[bool] = False
    labelled: ClassVar[bool] = True
    named_classes: ClassVar[bool] = True
    over_vocabulary: ClassVar[bool] = False
    padded: ClassVar[bool] = True
    ignored: ClassVar[frozenset[str]] = frozenset({"top_tokens"})

    def __repr__(self) -> str:
        """Return the name."""
        return f"<task kind {self.name}>"

    @property
    def over_classes(self) -> bool:
        """Whether logits belong to classes of either sort, so that a softmax of them means something."""
        return self.named_classes or self.over_vocabulary

    # Rows and their labels

    @abstractmethod
    def encode(self, source: TaskSource, metric: Metric) -> Encoded:
        """Return the classes in label order and the splits with encoded labels.

        Args:
            source: The rows, with labels as they were written.
            metric: The metric of the task.

        Raises:
            InputError: A label is missing, or does not fit the metric or the classes.
        """

    def num_outputs(self, classes: Sequence[str]) -> int:
        """Return the number of outputs of a model for these classes."""
        return len(classes)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer that cannot be used for such tasks.

        Raises:
            InputError: The tokenizer lacks something.
        """
        return

    def tokenise(
        self,
        split: pa.Table,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        place: str,
        on_chunk: Callable[[], None],
    ) -> pa.Table:
        """Return a split as tokens, with a label column where it has labels.

        Args:
            split: The rows, with the columns ``text_0`` (and ``text_1``) and ``label`` where there are labels.
            tokenizer: The tokenizer of the teacher.
            max_length: The most tokens of a row.
            place: Name of the split, for error messages.
            on_chunk: Called after every 10,000 rows.
        """
        columns = sum(name.startswith("text_") for name in split.column_names)
        return tokenise(split, tokenizer, max_length, columns, on_chunk)

    def extra_facts(self, splits: Mapping[str, pa.Table]) -> dict[str, Any]:
        """Return what the artifact of the tokenised task states beyond what it states for every kind."""
        return {}

    def label_total(self, facts: Mapping[str, Any], split: str) -> int | None:
        """Return the number of labels in a split; None where each row has one.

        Args:
            facts: The facts of the tokenised task.
            split: Name of the split.
        """
        return None

    # Batches

    def row_label_counts(self, split: SplitRows) -> np.ndarray:
        """Return the number of labels of each row of a split ``[N]``."""
        return np.ones_like(split.lengths)

    def most_labels(self, length: int) -> int:
        """Return the most labels that a row of ``length`` tokens can have."""
        return 1

    def labels(self, split: SplitRows, rows: np.ndarray, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return the labels of some rows, and which tokens they belong to.

        Args:
            split: The tokenised split.
            rows: Numbers of the rows ``[B]``.
            ids: Their tokens, padded ``[B, S]``.

        Returns:
            The labels ``[L]``, row after row, and a mask of tokens ``[B, S]``, or None where labels do not belong to
            single tokens.
        """
        return torch.from_numpy(split.labels[rows]), None

    def blank_labels(self, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return labels without meaning for tokens ``[B, S]``, as many as there can be; see ``labels``."""
        return torch.zeros(len(ids), dtype=torch.int64), None

    def label_counts(self, batch: BatchRows) -> np.ndarray:
        """Return the number of labels of each row of a batch ``[B]``."""
        return np.ones(len(batch.rows), np.int64)

    def inputs(self, batch: BatchRows) -> dict[str, torch.Tensor]:
        """Return keyword arguments of the forward that only this kind needs."""
        return {}

    def labelled_logits(self, logits: torch.Tensor, batch: BatchRows) -> torch.Tensor:
        """Return the logits that labels belong to ``[L, C]``, of all that a model computed."""
        return logits

    # Loss, predictions and scores

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum of the task's own loss over labels: cross entropy.

        Args:
            logits: ``[L, C]``.
            labels: ``[L]``.
        """
        return functional.cross_entropy(logits, labels, reduction="sum")

    def predictions(self, logits: torch.Tensor, batch: BatchRows) -> torch.Tensor:
        """Return what is kept of a batch's logits ``[L, C]``; one row for each row or each label."""
        return logits

    def by_row(self, predictions: np.ndarray, batch: BatchRows, split: SplitRows) -> np.ndarray:
        """Return the predictions of a batch with one line for each row ``[B, ...]``."""
        return predictions

    def scored(self, predictions: np.ndarray, split: SplitRows, metric: Metric, classes: Sequence[str]) -> np.ndarray:
        """Return the predictions of a split in the form that its metrics take ``[N, ...]``."""
        return predictions

    def reference(self, teacher_metric: float) -> float:
        """Return what a candidate's metric is divided by in the λ-tradeoff; 1 where the metric is in [0, 1] itself.

        Args:
            teacher_metric: The teacher's metric on the validation rows.
        """
        return 1.0

    # Answers for users

    @abstractmethod
    def answering(self, student: str, glue: str | None) -> Answering:
        """Return the function that makes the table of answers which ``raydisc predict`` writes.

        Args:
            student: The folder of the student, for error messages.
            glue: Name of the GLUE task whose format is wanted; None for a table.

        Raises:
            InputError: Students of this kind have no answers of this form.
        """
