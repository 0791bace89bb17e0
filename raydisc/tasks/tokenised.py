"""Tokenised splits as Arrow tables: written once, shared without copies, cut into padded batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from raydisc.tasks.words import Words, places_of

if TYPE_CHECKING:
    from raydisc.tasks.kinds.base import TaskKind


@dataclass(frozen=True)
class Whole:
    """The batch of all workers that a worker's share is a part of.

    Attributes:
        lengths: Number of tokens of each row without padding, int64.
        labels: Number of labels.
    """

    lengths: np.ndarray
    labels: int


@dataclass(frozen=True)
class Batch:
    """Examples padded to the longest of them.

    Attributes:
        input_ids: Tokens ``[B, S]``, int64.
        attention_mask: 1 for a token and 0 for padding, ``[B, S]``, int64.
        token_type_ids: Segment of each token ``[B, S]``, int64; None where the tokenizer makes no segments.
        labels: Labels ``[L]``, row after row: int64 class indices or tokens, or float32 targets; float32 NaN where the
            split has no labels, so that a metric or loss that uses them shows it at once.
        rows: Row numbers in the split ``[B]``, int64; always in the host's memory.
        lengths: Number of tokens of each row without padding ``[B]``, int64; always in the host's memory.
        kind: The kind of task, which knows how labels and logits belong together.
        tagged: Which tokens a label belongs to, where labels belong to single tokens: ``[B, S]`` bool, always in the
            host's memory.
        whole: The batch that this is a worker's share of; None where it is all of it.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    labels: torch.Tensor
    rows: np.ndarray
    lengths: np.ndarray
    kind: TaskKind
    tagged: np.ndarray | None = None
    whole: Whole | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens that are computed, padding included: ``B * S``."""
        return self.input_ids.numel()

    @property
    def real_tokens(self) -> int:
        """Number of tokens without padding; known without waiting for the device."""
        return int(self.lengths.sum())

    @property
    def label_counts(self) -> np.ndarray:
        """Number of labels of each row ``[B]``."""
        return self.kind.label_counts(self)

    @property
    def mean_labels(self) -> int:
        """The divisor of a mean over labels: the labels of all workers, at least 1."""
        return max(1, int(self.label_counts.sum()) if self.whole is None else self.whole.labels)

    @property
    def mean_tokens(self) -> int:
        """The divisor of a mean over tokens without padding: those of all workers."""
        return int((self.lengths if self.whole is None else self.whole.lengths).sum())

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and padded length of what all workers compute together."""
        return len(self.lengths if self.whole is None else self.whole.lengths), self.input_ids.shape[1]

    def share(self, rank: int, workers: int) -> Batch:
        """Return every ``workers``-th row from ``rank`` on, as wide as the batch; shares can be shared again.

        A batch is sorted by length, so that shares have about the same number of tokens. A share without rows has the
        tokens of the first row, since models cannot be run without any; ``models.forward`` drops what comes of them.
        """
        if workers == 1:
            return self
        own = slice(rank, None, workers)
        run = own if rank < len(self.rows) else slice(1)
        counts = self.label_counts
        labels = places_of((np.cumsum(counts) - counts)[own], counts[own])
        return replace(
            self,
            input_ids=self.input_ids[run],
            attention_mask=self.attention_mask[run],
            token_type_ids=None if self.token_type_ids is None else self.token_type_ids[run],
            labels=self.labels[torch.from_numpy(labels)],
            rows=self.rows[own],
            lengths=self.lengths[own],
            tagged=None if self.tagged is None else self.tagged[own],
            whole=self.whole or Whole(self.lengths, int(counts.sum())),
        )

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return keyword arguments of a Hugging Face forward, without labels."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch with its tensors on ``device``; the host does not wait for copies to a GPU."""
        return replace(
            self,
            input_ids=_put(self.input_ids, device),
            attention_mask=_put(self.attention_mask, device),
            token_type_ids=None if self.token_type_ids is None else _put(self.token_type_ids, device),
            labels=_put(self.labels, device),
        )


def _put(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def table_to_buffer(table: pa.Table) -> pa.Buffer:
    """Return the table as one buffer in Arrow's IPC file format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table_from_buffer(buf: pa.Buffer) -> pa.Table:
    """Return the table in a buffer (see ``table_to_buffer``), a view of its memory.

    Raises:
        pa.ArrowException: The buffer does not hold a table, or is cut short.
    """
    table = pa.ipc.open_file(pa.BufferReader(buf)).read_all()
    table.validate()
    return table


class Split:
    """A view of a tokenised table that hands out padded batches.

    The table's memory is used in place if each column is one chunk, as ``tokenise`` and ``table_to_buffer`` make it;
    several chunks are joined once.

    Attributes:
        lengths: Number of tokens of each row ``[N]``, int64.
        labels: Labels ``[N]``, int64 class indices or float32 targets; float32 NaN where a row has no label of its own.
        kind: The kind of task.
        words: The words of the rows with their tags, where rows are lists of words.
    """

    def __init__(self, table: pa.Table, kind: TaskKind) -> None:
        """View a table with the columns that ``tokenise`` or ``pack`` makes."""
        self.kind = kind
        ids, self._offsets = _list_view(table, "input_ids")
        self._ids = ids
        self._types = _list_view(table, "token_type_ids")[0] if "token_type_ids" in table.column_names else None
        self.lengths: np.ndarray = np.diff(self._offsets)
        self.words = _words(table) if kind.words else None
        self.labels: np.ndarray = (
            _one_chunk(table, "label").to_numpy(zero_copy_only=False)
            if "label" in table.column_names and self.words is None
            else np.full(table.num_rows, np.nan, np.float32)
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.lengths)

    @property
    def label_counts(self) -> np.ndarray:
        """Number of labels of each row ``[N]``."""
        return self.kind.row_label_counts(self)

    def tokens(self) -> np.ndarray:
        """Return the tokens that occur, ascending, int64."""
        ids = self._ids[self._offsets[0] : self._offsets[-1]]
        found = np.zeros(ids.max(initial=-1) + 1, bool)
        found[ids] = True
        return np.flatnonzero(found)

    def batch(self, rows: np.ndarray, pad_id: int) -> Batch:
        """Return some rows, given by their numbers ``[B]``, padded to the longest of them with the token ``pad_id``."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        positions = np.arange(lengths.max(initial=0))
        mask = positions < lengths[:, None]
        source = (self._offsets[rows][:, None] + positions)[mask]
        ids = _padded(self._ids, source, mask, pad_id)
        labels, tagged = self.kind.labels(self, rows, ids)
        return Batch(
            input_ids=ids,
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            token_type_ids=None if self._types is None else _padded(self._types, source, mask, 0),
            labels=labels,
            rows=rows,
            lengths=lengths,
            kind=self.kind,
            tagged=tagged,
        )


def _words(table: pa.Table) -> Words:
    first, offsets = _list_view(table, "first")
    part = slice(offsets[0], offsets[-1])
    tags = None
    if "label" in table.column_names:
        flat, places = _list_view(table, "label")
        tags = flat[places[0] : places[-1]]
    return Words(first[part], offsets - offsets[0], tags)


def _padded(values: np.ndarray, source: np.ndarray, mask: np.ndarray, fill: int) -> torch.Tensor:
    """Return the values at ``source`` where the mask ``[B, S]`` is true, and ``fill`` elsewhere; int64 ``[B, S]``."""
    padded = np.full(mask.shape, fill, np.int64)
    padded[mask] = values[source]
    return torch.from_numpy(padded)


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _list_view(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat values of a list column and the offsets ``[N + 1]`` of its rows in them."""
    column = _one_chunk(table, name)
    return column.values.to_numpy(), column.offsets.to_numpy().astype(np.int64)
