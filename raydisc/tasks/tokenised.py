"""Tokenised splits as Arrow: made once, shared without copies, cut into padded batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from raydisc.errors import InputError
from raydisc.tasks.source import is_list
from raydisc.tasks.words import Words, first_tokens, places_of, spaced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 10_000  # rows handed to the tokenizer at once: bounds its Python objects, not the result


@dataclass(frozen=True)
class Batch:
    """Examples padded to the longest of them.

    Attributes:
        input_ids: Tokens `[B, S]`, int64.
        attention_mask: 1 for a token and 0 for padding, `[B, S]`, int64.
        token_type_ids: Segment of each token `[B, S]`, int64; None where the tokenizer makes none.
        labels: `[B]`, int64 class index or float32 target; float32 NaN where the split has no labels, so that
            a metric or loss which touches them is seen at once. In a language task the tokens to be predicted, those
            of each row but its first, row after row: `[B * (S - 1)]`, int64; in a token task the tags of `asked`.
        rows: Row numbers in the split `[B]`, int64; always in the host's memory.
        lengths: Tokens of each row that are no padding `[B]`, int64; always in the host's memory.
        language: Whether it is of a language task, whose rows are equally long.
        asked: Which tokens a label belongs to, in a token task: `[B, S]` bool, always in the host's memory; else None.
        whole_lengths: Lengths of all rows of the batch that this is a worker's share of; None where it is all of it.
        whole_labels: How many labels that has.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    labels: torch.Tensor
    rows: np.ndarray
    lengths: np.ndarray
    language: bool = False
    asked: np.ndarray | None = None
    whole_lengths: np.ndarray | None = None
    whole_labels: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens computed, padding included: `B * S`."""
        return self.input_ids.numel()

    @property
    def real_tokens(self) -> int:
        """Tokens that are no padding; known without asking the device."""
        return int(self.lengths.sum())

    @property
    def label_counts(self) -> np.ndarray:
        """Labels of each row `[B]`: its predicted tokens in a language task, its tags in a token task, else one."""
        if self.asked is not None:
            counts: np.ndarray = self.asked.sum(axis=1)
            return counts
        return np.full(len(self.rows), self.input_ids.shape[1] - 1 if self.language else 1)

    @property
    def mean_labels(self) -> int:
        """What a mean over labels divides by: those of all workers; 1 where there are none to add up."""
        return max(1, int(self.label_counts.sum()) if self.whole_labels is None else self.whole_labels)

    @property
    def mean_tokens(self) -> int:
        """What a mean over tokens that are no padding divides by: those of all workers."""
        return int((self.lengths if self.whole_lengths is None else self.whole_lengths).sum())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and padded length that all workers compute together."""
        return len(self.lengths if self.whole_lengths is None else self.whole_lengths), self.input_ids.shape[1]

    def share(self, rank: int, workers: int) -> Batch:
        """Every `workers`-th row from `rank` on, as wide as the batch; none where there are too few. Also of a share.

        A batch is sorted by length, so the shares have about the same number of tokens. A share without rows has the
        first row's tokens, since models cannot be run on none; nobody sees what comes of them (`models.outputs`).
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
            asked=None if self.asked is None else self.asked[own],
            whole_lengths=self.lengths if self.whole_lengths is None else self.whole_lengths,
            whole_labels=int(counts.sum()) if self.whole_labels is None else self.whole_labels,
        )

    def inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of a Hugging Face forward, without labels."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`; the host does not wait for copies to a GPU."""
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


def _tell_nobody() -> None:
    """For who does not ask how far tokenisation has come."""


def tokenise(
    split: pa.Table,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    num_text: int,
    on_chunk: Callable[[], None] = _tell_nobody,
) -> pa.Table:
    """Tokenises the text columns of a split, or its lists of words.

    Args:
        split: Columns `text_0` (and `text_1`), and `label` where it has labels.
        tokenizer: A Hugging Face tokenizer.
        max_length: Most tokens of a row, special tokens included; longer rows are truncated (of a pair, the
            longer text first).
        num_text: 1 for single sentences, 2 for pairs.
        on_chunk: Told after every 10,000 rows.

    Returns:
        A table with `input_ids` list<int32>, `token_type_ids` list<int8> if the tokenizer makes them, and
        `label` as it was; no padding. Of words also `first` list<int32>, where the first token of each lies: -1 of
        those that were cut off.

    Raises:
        InputError: Words for a tokenizer that does not say which token belongs to which.
    """
    texts = [split.column(f"text_{i}").to_pylist() for i in range(num_text)]
    words = is_list(split.column("text_0"))
    if words and spaced(tokenizer):
        texts = [[[row[0], *(f" {word}" for word in row[1:])] for row in column] for column in texts]
    ids: list[pa.Array] = []
    types: list[pa.Array] = []
    first: list[pa.Array] = []
    for start in range(0, split.num_rows, CHUNK):
        encoded = tokenizer(
            *(column[start : start + CHUNK] for column in texts),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            is_split_into_words=words,
        )
        if words:
            sizes = map(len, texts[0][start : start + CHUNK])
            places = [first_tokens(encoded, row, size) for row, size in enumerate(sizes)]
            first.append(pa.array(places, pa.list_(pa.int32())))
        ids.append(pa.array(encoded["input_ids"], pa.list_(pa.int32())))
        if "token_type_ids" in encoded:
            types.append(pa.array(encoded["token_type_ids"], pa.list_(pa.int8())))
        on_chunk()
    columns: dict[str, Any] = {"input_ids": pa.chunked_array(ids, pa.list_(pa.int32()))}
    if types:
        columns["token_type_ids"] = pa.chunked_array(types, pa.list_(pa.int8()))
    if words:
        columns["first"] = pa.chunked_array(first, pa.list_(pa.int32()))
    if "label" in split.column_names:
        columns["label"] = split.column("label")
    return pa.table(columns).combine_chunks()


def pack(
    split: pa.Table,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    place: str,
    on_chunk: Callable[[], None] = _tell_nobody,
) -> pa.Table:
    """Tokenises the texts of a language task, joins them, each ended by the end-of-text token, and cuts them into rows.

    What is left at the end, shorter than a row, is dropped.

    Args:
        split: Column `text_0`.
        tokenizer: A Hugging Face tokenizer.
        length: Tokens of a row.
        place: What the split is called, for errors.
        on_chunk: Told after every 10,000 texts.

    Returns:
        A table with `input_ids` list<int32>, every row `length` long.

    Raises:
        InputError: The tokenizer has no token that ends a text, or the texts do not fill a row.
    """
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if end is None:
        raise InputError(
            "teacher.tokenizer: it has no end-of-text token (eos_token), which a language task puts between texts; "
            "set one and save the tokenizer"
        )
    texts = split.column("text_0").to_pylist()
    parts: list[np.ndarray] = []
    for start in range(0, len(texts), CHUNK):
        encoded = tokenizer(texts[start : start + CHUNK], add_special_tokens=False, return_attention_mask=False)
        parts += [np.asarray([*ids, end], np.int32) for ids in encoded["input_ids"]]
        on_chunk()
    tokens = np.concatenate(parts)
    rows = len(tokens) // length
    if rows == 0:
        raise InputError(
            f"task.max_length: the {place} texts have {len(tokens)} tokens together, fewer than one row of "
            f"{length}; set it lower or give more texts"
        )
    offsets = np.arange(rows + 1, dtype=np.int32) * length
    return pa.table({"input_ids": pa.ListArray.from_arrays(offsets, tokens[: rows * length])})


def table_to_buffer(table: pa.Table) -> pa.Buffer:
    """The table as one buffer in Arrow's IPC file format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table_from_buffer(buf: pa.Buffer) -> pa.Table:
    """The table in `buf` (`table_to_buffer`), a view of its memory.

    Raises:
        pa.ArrowException: It is none, or cut short.
    """
    table = pa.ipc.open_file(pa.BufferReader(buf)).read_all()
    table.validate()
    return table


class Split:
    """A view of a tokenised table that hands out padded batches.

    The table's memory is used in place where each column is one chunk, as `tokenise` and `table_to_buffer`
    leave it; more chunks are joined once.

    Attributes:
        lengths: Tokens of each row `[N]`, int64.
        labels: `[N]`, int64 class index or float32 target; float32 NaN where a row has no label of its own.
        language: Whether the rows are those of a language task (`pack`).
        words: Those of a token task, with their tags; else None.
    """

    def __init__(self, table: pa.Table, language: bool = False) -> None:
        """Views a table with the columns that `tokenise` or `pack` makes."""
        self.language = language
        ids, self._offsets = _list_view(table, "input_ids")
        self._ids = ids
        self._types = _list_view(table, "token_type_ids")[0] if "token_type_ids" in table.column_names else None
        self.lengths: np.ndarray = np.diff(self._offsets)
        self.words = _words(table) if "first" in table.column_names else None
        self.labels: np.ndarray = (
            _one_chunk(table, "label").to_numpy(zero_copy_only=False)
            if "label" in table.column_names and self.words is None
            else np.full(table.num_rows, np.nan, np.float32)
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def label_counts(self) -> np.ndarray:
        """Labels that each row has `[N]`, as those of a batch."""
        if self.words is not None:
            return self.words.counts
        counts: np.ndarray = self.lengths - 1 if self.language else np.ones_like(self.lengths)
        return counts

    def tokens(self) -> np.ndarray:
        """The tokens that occur, ascending, int64."""
        ids = self._ids[self._offsets[0] : self._offsets[-1]]
        found = np.zeros(ids.max(initial=-1) + 1, bool)
        found[ids] = True
        return np.flatnonzero(found)

    def batch(self, rows: np.ndarray, pad_id: int) -> Batch:
        """The rows `[B]`, padded to the longest of them with the token `pad_id`."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        positions = np.arange(lengths.max(initial=0))
        mask = positions < lengths[:, None]
        source = (self._offsets[rows][:, None] + positions)[mask]
        ids = _padded(self._ids, source, mask, pad_id)
        return Batch(
            input_ids=ids,
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            token_type_ids=None if self._types is None else _padded(self._types, source, mask, 0),
            labels=ids[:, 1:].flatten() if self.language else torch.from_numpy(self._labels(rows)),
            rows=rows,
            lengths=lengths,
            language=self.language,
            asked=None if self.words is None else self.words.asked(rows, len(positions)),
        )

    def _labels(self, rows: np.ndarray) -> np.ndarray:
        labels: np.ndarray = self.labels[rows] if self.words is None else self.words.labels(rows)
        return labels


def _words(table: pa.Table) -> Words:
    first, offsets = _list_view(table, "first")
    part = slice(offsets[0], offsets[-1])
    tags = None
    if "label" in table.column_names:
        flat, places = _list_view(table, "label")
        tags = flat[places[0] : places[-1]]
    return Words(first[part], offsets - offsets[0], tags)


def _padded(values: np.ndarray, source: np.ndarray, mask: np.ndarray, fill: int) -> torch.Tensor:
    """Values at `source` laid out where `mask` `[B, S]` is true, `fill` elsewhere; int64 `[B, S]`."""
    padded = np.full(mask.shape, fill, np.int64)
    padded[mask] = values[source]
    return torch.from_numpy(padded)


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _list_view(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The flat values of a list column and the offsets `[N + 1]` of its rows in them."""
    column = _one_chunk(table, name)
    return column.values.to_numpy(), column.offsets.to_numpy().astype(np.int64)
