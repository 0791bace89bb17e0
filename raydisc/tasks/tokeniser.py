"""Texts to tokens: rows of their own, or texts joined and cut into rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raydisc.errors import InputError
from raydisc.tasks.source import is_list
from raydisc.tasks.words import first_tokens, spaced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 10_000  # rows handed to the tokenizer at once: bounds its Python objects, not the result


def _ignore() -> None:
    """Do nothing: the default of callers that do not follow the progress."""


def tokenise(
    split: pa.Table,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    num_text: int,
    on_chunk: Callable[[], None] = _ignore,
) -> pa.Table:
    """Tokenise the text columns of a split, or its lists of words.

    Args:
        split: Rows with the columns ``text_0`` (and ``text_1``), and ``label`` where there are labels.
        tokenizer: A Hugging Face tokenizer.
        max_length: The most tokens of a row, special tokens included; longer rows are truncated (of a pair, the
            longer text first).
        num_text: 1 for single texts, 2 for pairs.
        on_chunk: Called after every 10,000 rows.

    Returns:
        A table without padding: ``input_ids`` list<int32>, ``token_type_ids`` list<int8> if the tokenizer makes them,
        and ``label`` unchanged. For lists of words also ``first`` list<int32>, the place of the first token of each
        word, or -1 where it was cut off.

    Raises:
        InputError: The rows are lists of words, and the tokenizer does not report which token belongs to which word.
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
    on_chunk: Callable[[], None] = _ignore,
) -> pa.Table:
    """Tokenise texts, join them, each ended by the end-of-text token, and cut them into rows of equal length.

    A rest at the end that is shorter than a row is dropped.

    Args:
        split: Rows with the column ``text_0``.
        tokenizer: A Hugging Face tokenizer.
        length: The number of tokens of a row.
        place: Name of the split, for error messages.
        on_chunk: Called after every 10,000 texts.

    Returns:
        A table with ``input_ids`` list<int32>, ``length`` tokens in each row.

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
