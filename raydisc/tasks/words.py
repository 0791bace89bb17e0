"""Words and their tokens: the tag of a word belongs to its first token.

Shape letters: N rows, W words of all rows, B rows and S tokens of a batch, L labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raydisc.errors import InputError
from raydisc.tasks.tags import UNTAGGED

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_NO_TOKEN = -1


def spaced(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer needs the space before each word but the first.

    Byte-level tokenizers make other tokens of a word that follows a space, but read lists of words as if no space did.

    Raises:
        InputError: The tokenizer does not report which token belongs to which word.
    """
    if not tokenizer.is_fast:
        raise InputError(
            "teacher.tokenizer: it does not report which token belongs to which word; use one with a tokenizer.json"
        )
    text, words, after_spaces = (
        tokenizer(given, add_special_tokens=False, is_split_into_words=not isinstance(given, str))["input_ids"]
        for given in ("a a", ["a", "a"], ["a", " a"])
    )
    return bool(words != text and after_spaces == text)


def first_tokens(encoded: BatchEncoding, row: int, words: int) -> list[int]:
    """Return the place of the first token of each word of a row; -1 for a word that was cut off or has no token."""
    first = [_NO_TOKEN] * words
    for place, word in reversed(list(enumerate(encoded.word_ids(row)))):
        if word is not None:
            first[word] = place
    return first


def places_of(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the places of all entries of some rows, from their starts and sizes, row after row."""
    before = np.cumsum(sizes) - sizes
    places: np.ndarray = np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))
    return places


class Words:
    """The words of a tokenised split.

    Attributes:
        sizes: Number of words of each row ``[N]``.
        counts: Number of those that have a token ``[N]``.
        tags: Class index of every word ``[W]``; zeros if there are no labels.
    """

    def __init__(self, first: np.ndarray, offsets: np.ndarray, tags: np.ndarray | None) -> None:
        """View the first tokens of words ``[W]``, the offsets ``[N + 1]`` of rows in them, and their tags."""
        self._first, self._starts = first, offsets[:-1]
        self.sizes: np.ndarray = np.diff(offsets)
        self.tags: np.ndarray = np.zeros(len(first), np.int64) if tags is None else tags
        self._read = first != _NO_TOKEN
        self.counts: np.ndarray = np.diff(np.concatenate([[0], np.cumsum(self._read)])[offsets])

    def first_token_mask(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Return a mask of the tokens of some rows that are the first of a word ``[B, S]``, for S tokens."""
        places = places_of(self._starts[rows], self.sizes[rows])
        read = self._read[places]
        mask = np.zeros((len(rows), length), bool)
        mask[np.repeat(np.arange(len(rows)), self.sizes[rows])[read], self._first[places][read]] = True
        return mask

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Return the tags of the words that have a token in some rows, row after row ``[L]``, int64."""
        places = places_of(self._starts[rows], self.sizes[rows])
        labels: np.ndarray = self.tags[places][self._read[places]]
        return labels

    def tagged(self, predictions: np.ndarray) -> np.ndarray:
        """Return predictions of all rows ``[N, most counts]`` as a tag for every word ``[W]``, or ``UNTAGGED``."""
        tags = np.full(len(self._first), UNTAGGED, predictions.dtype)
        tags[self._read] = predictions[np.arange(predictions.shape[1]) < self.counts[:, None]]
        return tags
