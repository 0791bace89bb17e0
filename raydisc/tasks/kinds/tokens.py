"""Tasks whose rows are lists of words, each word with a tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from raydisc.errors import InputError
from raydisc.tasks.kinds.base import Answering, TaskKind
from raydisc.tasks.kinds.rows import BatchRows, SplitRows
from raydisc.tasks.labels import Encoded, check_tags, encode_classes
from raydisc.tasks.metrics import Metric
from raydisc.tasks.source import TaskSource
from raydisc.tasks.tags import UNTAGGED, count_rows
from raydisc.tasks.tokenised import Split
from raydisc.tasks.words import Words, spaced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens(TaskKind):
    """A tag for each word, which a model gives at the first token of the word.

    The predictions of a row are its tags from left to right, and what metrics take is what they count in a row.
    """

    name = "tokens"
    head = "token"
    text_columns = 1
    words = True

    def encode(self, source: TaskSource, metric: Metric) -> Encoded:
        """Encode tags as class indices; see the base class."""
        check_tags(source, metric)
        return encode_classes(source, metric, in_lists=True)

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer that does not report which token belongs to which word."""
        spaced(tokenizer)

    def extra_facts(self, splits: Mapping[str, pa.Table]) -> dict[str, Any]:
        """Return the number of tags in each split that a model can be asked for."""
        return {"tags": {name: int(Split(table, self).label_counts.sum()) for name, table in splits.items()}}

    def label_total(self, facts: Mapping[str, Any], split: str) -> int | None:
        """Return the number of tags in a split."""
        return int(facts["tags"][split])

    def row_label_counts(self, split: SplitRows) -> np.ndarray:
        """Return the number of words in each row that have a token."""
        return _words(split).counts

    def most_labels(self, length: int) -> int:
        """Return one for each token."""
        return length

    def labels(self, split: SplitRows, rows: np.ndarray, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return the tags of the words that have a token, and where those lie."""
        words = _words(split)
        return torch.from_numpy(words.labels(rows)), words.first_token_mask(rows, ids.shape[1])

    def blank_labels(self, ids: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Return a tag for each token."""
        return ids.flatten(), np.ones(ids.shape, bool)

    def label_counts(self, batch: BatchRows) -> np.ndarray:
        """Return the number of tags of each row."""
        counts: np.ndarray = _tagged(batch).sum(axis=1)
        return counts

    def labelled_logits(self, logits: torch.Tensor, batch: BatchRows) -> torch.Tensor:
        """Return the logits of the tokens that have a tag."""
        places = torch.from_numpy(np.flatnonzero(_tagged(batch))).to(logits.device, non_blocking=True)
        return logits.flatten(0, 1).index_select(0, places)

    def predictions(self, logits: torch.Tensor, batch: BatchRows) -> torch.Tensor:
        """Return the class of each tag ``[L]``; NaN where a logit is not finite."""
        return logits.argmax(dim=-1).where(logits.isfinite().all(dim=-1), torch.nan)

    def by_row(self, predictions: np.ndarray, batch: BatchRows, split: SplitRows) -> np.ndarray:
        """Return the tags ``[L]`` as ``[B, most words of any row]``, those of each row from the left."""
        found = np.zeros((len(batch.rows), int(_words(split).counts.max())), np.float32)
        found[np.arange(found.shape[1]) < batch.label_counts[:, None]] = predictions
        return found

    def scored(self, predictions: np.ndarray, split: SplitRows, metric: Metric, classes: Sequence[str]) -> np.ndarray:
        """Return what the metric counts in each row ``[N, K]``; a word without a token has no right tag."""
        assert metric.counts is not None
        words = _words(split)
        return count_rows(metric.counts, words.tagged(predictions), words.tags, words.sizes, classes)

    def answering(self, student: str, glue: str | None) -> Answering:
        """Return the function that gives a line for each word, but refuse the format of GLUE."""
        if glue is not None:
            raise InputError(f"--glue {glue}: GLUE has no tasks of tagged words, but '{student}' labels words")
        return _answers


def _answers(predictions: np.ndarray, texts: pa.Table, split: SplitRows, classes: Sequence[str]) -> pa.Table:
    """Return a line for each word; a word without a token has no label."""
    chosen = pa.array(_words(split).tagged(predictions), from_pandas=True)
    labels = pc.take(pa.array(classes), pc.if_else(pc.equal(chosen, UNTAGGED), None, chosen).cast(pa.int64()))
    column = texts.column("text_0")
    return pa.table({"row": pc.list_parent_indices(column), "word": pc.list_flatten(column), "label": labels})


def _words(split: SplitRows) -> Words:
    assert split.words is not None
    return split.words


def _tagged(batch: BatchRows) -> np.ndarray:
    assert batch.tagged is not None
    return batch.tagged


TOKENS = Tokens()
