"""Splits: which rows train, select and test is decided by a hash of the text, whatever their order and the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydisc.errors import InputError
from raydisc.tasks.source import is_list

HELD_OUT = 0.1  # share of the training rows that becomes the validation where validation had to become the test


def text_hashes(table: pa.Table) -> np.ndarray:
    """Return the first 8 bytes of the SHA-256 of each row's texts ``[N]``, uint64."""
    texts = [_texts(table.column(name)) for name in table.column_names if name.startswith("text_")]
    digests = b"".join(hashlib.sha256("\x1f".join(row).encode()).digest()[:8] for row in zip(*texts, strict=True))
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _texts(column: pa.ChunkedArray) -> list[str]:
    texts: list[str] = (pc.binary_join(column, "\x1e") if is_list(column) else column).to_pylist()
    return texts


def apply_test_rule(
    splits: dict[str, pa.Table], needs_labels: bool = True
) -> tuple[dict[str, pa.Table], tuple[str, ...]]:
    """Make sure that there is a test split, with labels if the task has labels.

    Without one, the validation split becomes the test split, and a tenth of the training rows, chosen by the hash of
    their text, becomes the validation split; a test without labels is kept as ``unlabelled``.

    Returns:
        The splits ``train``, ``validation``, ``test`` (and ``unlabelled``), and sentences for the user.

    Raises:
        InputError: There are too few training rows to hold any out.
    """
    test = splits.get("test")
    if test is not None and ("label" in test.column_names or not needs_labels):
        return splits, ()
    train = splits["train"]
    held = text_hashes(train) < np.uint64(HELD_OUT * 2**64)
    if not 0 < held.sum() < len(held):
        raise InputError(
            f"task.test: there is no test with labels, and {len(held)} training rows are too few to hold "
            "a tenth out as validation; give a labelled test or more training rows"
        )
    ruled = {"train": train.filter(~held), "validation": train.filter(held), "test": splits["validation"]}
    reason = "there is no test split"
    if test is not None:
        ruled["unlabelled"] = test
        reason = "the test split has no labels"
    notice = (
        f"{reason}: the validation split is the test, and {int(held.sum())} of {len(held)} training rows "
        "(a tenth, by the hash of their text) are the validation"
    )
    return {name: table.combine_chunks() for name, table in ruled.items()}, (notice,)


def overlap_notices(splits: Mapping[str, pa.Table]) -> tuple[str, ...]:
    """Return a sentence for validation and one for test where some of their texts are training texts too.

    A model may have such rows by heart, so that the metric flatters it. Texts are compared by their hashes, exactly as
    they are written.

    Args:
        splits: The splits by name.
    """
    train, notices = np.unique(text_hashes(splits["train"])), []
    for name in ("validation", "test"):
        hashes = text_hashes(splits[name])
        shared = int(np.isin(hashes, train).sum())
        if shared:
            rows = f"{shared:,} of {len(hashes):,} {name} rows"
            notices.append(f"task: {rows} have a text that is in train too, which a model may have learned by heart")
    return tuple(notices)


def keep_rows(train: pa.Table, rows: int) -> pa.Table:
    """Return the ``rows`` training rows with the smallest hashes, in their order: the same on every machine."""
    chosen = np.sort(np.argsort(text_hashes(train), kind="stable")[:rows])
    return train.take(pa.array(chosen)).combine_chunks()
