"""The rows of a task as they come from any source, before labels are encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydisc.errors import InputError, on_one_line


@dataclass(frozen=True)
class TaskSource:
    """The rows of a task as they come, and what they mean.

    Attributes:
        splits: Tables of rows by the names ``train``, ``validation`` and, where there is one, ``test``. Without a test
            that has labels, the validation split becomes the test, and a tenth of the training rows the validation.
        text: The one or two columns that hold the text of a row: strings, or lists of words for a metric that judges
            tags.
        metric: Name of the metric, which decides what labels must look like.
        label: The column of labels: class names or numbers, numbers for regression, or lists of tags. A language
            task needs none.
        classes: Names of the classes in label order; None to take them from the training labels.
        name: Name of the task in tables.
        places: A description of where each split comes from, for error messages.
        notices: Sentences for the user.

    Example:
        >>> rows = pa.table({"review": ["well done", "oh no"], "mood": ["good", "bad"]})
        >>> source = TaskSource({"train": rows, "validation": rows}, text=("review",), metric="accuracy", label="mood")
        >>> source.splits["train"].num_rows
        2
    """

    splits: Mapping[str, pa.Table]
    text: tuple[str, ...]
    metric: str
    label: str = "label"
    classes: tuple[str, ...] | None = None
    name: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def selected(source: TaskSource, words: bool, labelled: bool) -> TaskSource:
    """Return a source whose tables have only the columns ``text_0`` (``text_1``) and ``label``.

    Args:
        source: The rows as they come.
        words: Whether a text is a list of words.
        labelled: Whether labels are wanted; a test may lack them.

    Raises:
        InputError: See ``select_columns``.
    """
    label = source.label if labelled else None
    splits = {
        split: select_columns(table, source.text, label, source.places[split], split == "test", words)
        for split, table in source.splits.items()
    }
    return replace(source, splits=splits)


def select_columns(
    table: pa.Table,
    text: Sequence[str],
    label: str | None,
    place: str,
    label_optional: bool = False,
    words: bool = False,
) -> pa.Table:
    """Return a table of the texts as ``text_0`` (``text_1``) and of the labels as ``label``.

    Args:
        table: The rows as they were read.
        text: The one or two columns of texts.
        label: The column of labels; None to leave labels out.
        place: Where the rows come from, for error messages.
        label_optional: Whether ``label`` is left out if the column is missing or empty (all null or all -1).
        words: Whether a text is a list of words.

    Raises:
        InputError: There are no rows, a column is missing or does not hold text, or a row has no text.
    """
    if table.num_rows == 0:
        raise InputError(f"{place}: there are no rows; every split needs at least one")
    read = _words if words else _text
    columns = {f"text_{i}": read(table, name, place) for i, name in enumerate(text)}
    if label is None or (label_optional and _unlabelled(table, label)):
        return pa.table(columns)
    return pa.table({**columns, "label": _column(table, label, "task.label", place)}).combine_chunks()


def first_row(mask: pa.ChunkedArray | np.ndarray) -> int:
    """Return the number of the first true row, counted from 0."""
    return int(np.flatnonzero(np.asarray(mask))[0])


def _column(table: pa.Table, name: str, key: str, place: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        known = on_one_line(", ".join(table.column_names))
        raise InputError(f"{key}: {place} has no column {name!r}; its columns are {known}")
    column = table.column(name)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _text(table: pa.Table, name: str, place: str) -> pa.ChunkedArray:
    column = _column(table, name, "task.text", place)
    if not _is_text(column.type):
        hint = "; lists of words need a metric that judges tags (token_accuracy, span_f1)" if is_list(column) else ""
        raise InputError(
            f"task.text: column {name!r} of {place} holds {on_one_line(str(column.type))}; it must hold text{hint}"
        )
    _refuse_without_text(pc.is_null(column), name, place)
    return column.cast(pa.string())


def _words(table: pa.Table, name: str, place: str) -> pa.ChunkedArray:
    column = _column(table, name, "task.text", place)
    if not is_list(column) or not _is_text(column.type.value_type):
        raise InputError(
            f"task.text: column {name!r} of {place} holds {on_one_line(str(column.type))}; a metric that judges "
            "tags needs lists of words (list<string>)"
        )
    _refuse_without_text(pc.equal(pc.fill_null(pc.list_value_length(column), 0), 0), name, place)
    missing = pc.is_null(pc.list_flatten(column))
    if pc.any(missing).as_py():
        row = pc.list_parent_indices(column)[first_row(missing)]
        raise InputError(f"task.text: column {name!r} of {place} has a null among the words of row {row}")
    return column.cast(pa.list_(pa.string()))


def is_list(column: pa.ChunkedArray) -> bool:
    """Whether a column holds lists."""
    return bool(pa.types.is_list(column.type) or pa.types.is_large_list(column.type))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _refuse_without_text(missing: pa.ChunkedArray, name: str, place: str) -> None:
    count = pc.sum(missing).as_py()
    if count:
        raise InputError(
            f"task.text: column {name!r} of {place} has no text in row {first_row(missing)} (counted from 0; rows "
            f"without text: {count}); every row needs one"
        )


def _unlabelled(table: pa.Table, name: str) -> bool:
    """Whether no row has a label; GLUE writes -1 for a hidden one."""
    if name not in table.column_names:
        return True
    column = table.column(name)
    if column.null_count == len(column):
        return True
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return False
    return bool(pc.all(pc.equal(column.cast(pa.float64()), -1.0), skip_nulls=False).as_py())
