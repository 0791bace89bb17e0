"""Labels as they are written, encoded as class indices or numbers; errors name the row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydisc.errors import InputError, on_one_line, reason_of
from raydisc.tasks.metrics import METRICS, Metric
from raydisc.tasks.source import TaskSource, first_row, is_list

Encoded = tuple[tuple[str, ...], dict[str, pa.Table]]
"""Classes in label order, and the splits with encoded labels."""


def encode_classes(source: TaskSource, metric: Metric, in_lists: bool = False) -> Encoded:
    """Encode the labels of every split that has them as class indices.

    Classes are those given, else the sorted labels of the training rows. Whole-number labels are looked up
    among the classes by value; where the given classes are names, they are positions among them.

    Args:
        source: The rows.
        metric: The metric of the task.
        in_lists: Whether a row has a list of labels instead of one.

    Returns:
        The classes, and the splits with int64 class indices, or lists of them, as ``label``.

    Raises:
        InputError: A label outside the classes, classes that do not fit the metric, or fewer than two of them.
    """
    classes = source.classes or _classes(source, metric, in_lists)
    told = on_one_line(", ".join(classes))
    if len(classes) < 2:
        raise InputError(f"task.label: {source.places['train']} has one class only, {told!r}; give two or more")
    if metric.two_classes and len(classes) != 2:
        others = [other.name for other in METRICS if other.kind == metric.kind and not other.two_classes]
        raise InputError(
            f"task.metric: {metric.name!r} is for two classes and the task has {len(classes)} "
            f"({told}); use {' or '.join(others)}"
        )
    if metric.check_classes is not None:
        metric.check_classes(metric.name, classes)
    tables = {name: _indices(table, classes, source, name, metric, in_lists) for name, table in source.splits.items()}
    return classes, tables


def encode_numbers(source: TaskSource, metric: Metric) -> Encoded:
    """Convert the labels of every split that has them to float32; there are no classes.

    Raises:
        InputError: A label is not a number.
    """
    return (), {split: _numbers(table, source.places[split], metric) for split, table in source.splits.items()}


def check_present(source: TaskSource) -> None:
    """Refuse a labelled split that lacks the label of a row.

    Raises:
        InputError: A label is empty, not a number or infinite.
    """
    for split, table in source.splits.items():
        if "label" in table.column_names:
            _check_present(table.column("label"), source.places[split])


def check_tags(source: TaskSource, metric: Metric) -> None:
    """Refuse a split without exactly one tag for each word.

    Raises:
        InputError: Rows are whole texts instead of lists of words, or tags are missing or too many.
    """
    for split, table in source.splits.items():
        _check_tags(table, source.places[split], metric)


def _check_present(column: pa.ChunkedArray, place: str) -> None:
    missing = pc.is_null(column)
    if pa.types.is_floating(column.type):
        missing = pc.or_(missing, pc.invert(pc.fill_null(pc.is_finite(column.cast(pa.float32(), safe=False)), False)))
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        missing = pc.or_(missing, pc.fill_null(pc.equal(column, ""), True))  # an empty cell of a CSV file
    if pc.any(missing).as_py():
        raise InputError(
            f"task.label: {place} has no label (empty, NaN or infinite) in row {first_row(missing)} (counted from 0; "
            f"rows without label: {pc.sum(missing).as_py()}); every row needs one"
        )


def _check_tags(table: pa.Table, place: str, metric: Metric) -> None:
    """Refuse a table without exactly one tag for each word of each row."""
    words = table.column("text_0")
    if not is_list(words):
        raise InputError(f"task.metric: {metric.name!r} judges a tag for each word, but {place} has whole texts")
    if "label" not in table.column_names:
        return
    tags = table.column("label")
    if not is_list(tags):
        raise InputError(
            f"task.label: {place} has labels of type {on_one_line(str(tags.type))}, but metric {metric.name!r} needs a "
            "list of tags, one for each word"
        )
    sizes = [pc.fill_null(pc.list_value_length(column), 0) for column in (words, tags)]
    other = pc.not_equal(*sizes)
    if pc.any(other).as_py():
        row = first_row(other)
        raise InputError(
            f"task.label: {place} has {sizes[0][row]} words but {sizes[1][row]} tags in row {row} (counted from 0; "
            f"such rows: {pc.sum(other).as_py()}); every word needs one tag"
        )
    missing = pc.is_null(pc.list_flatten(tags))
    if pc.any(missing).as_py():
        row = pc.list_parent_indices(tags)[first_row(missing)]
        raise InputError(f"task.label: {place} has a word without a tag (null) in row {row} (counted from 0)")


def _numbers(table: pa.Table, place: str, metric: Metric) -> pa.Table:
    if "label" not in table.column_names:
        return table
    column = table.column("label")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(
            f"task.label: {place} has labels of type {on_one_line(str(column.type))}, but metric {metric.name!r} needs "
            f"numbers; for classes use {_names('classification')}"
        )
    return _with_label(table, column.cast(pa.float32(), safe=False))


def _indices(
    table: pa.Table, classes: Sequence[str], source: TaskSource, split: str, metric: Metric, in_lists: bool
) -> pa.Table:
    """Return a table with class indices instead of labels."""
    if "label" not in table.column_names:
        return table
    column = table.column("label")
    written = _written(_each(column, in_lists), source.places[split], metric)
    names = [str(i) for i in range(len(classes))] if _positions(written, classes) else list(classes)
    indices = pc.index_in(written.cast(pa.string()), pa.array(names, pa.string()))
    if indices.null_count:
        place = first_row(pc.is_null(indices))
        row = pc.list_parent_indices(column)[place] if in_lists else place
        whence = "given in task.classes" if source.classes else "of the training rows"
        raise InputError(
            f"task.label: {source.places[split]} has the label {on_one_line(str(written[place]))!r} in row "
            f"{row} (counted from 0), which is not one of the classes {whence}: {on_one_line(', '.join(classes))}"
        )
    numbered = indices.cast(pa.int64())
    if in_lists:
        ends = np.cumsum(pc.list_value_length(column).to_numpy())
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        numbered = pa.ListArray.from_arrays(offsets, numbered.combine_chunks())
    return _with_label(table, numbered)


def _classes(source: TaskSource, metric: Metric, in_lists: bool) -> tuple[str, ...]:
    labels = _each(source.splits["train"].column("label"), in_lists)
    written = _written(labels, source.places["train"], metric)
    return tuple(str(label) for label in sorted(pc.unique(written).to_pylist()))


def _each(column: pa.ChunkedArray, in_lists: bool) -> pa.ChunkedArray:
    """Return the labels one by one, whether a row has one or a list of them."""
    return pc.list_flatten(column) if in_lists else column


def _positions(written: pa.ChunkedArray, classes: Sequence[str]) -> bool:
    """Whether the labels are positions among class names rather than the classes themselves."""
    return pa.types.is_integer(written.type) and not any(name.lstrip("-").isdigit() for name in classes)


def _written(column: pa.ChunkedArray, place: str, metric: Metric) -> pa.ChunkedArray:
    """Return labels as int64 or string; whole numbers that are stored as floats become int64."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    whole = pa.types.is_floating(kind) and pc.all(pc.equal(column, pc.floor(column))).as_py()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or whole:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise InputError(
                f"task.label: {place} has labels that do not fit 64-bit integers ({reason_of(error)}); write such "
                "classes as text"
            ) from error
    what = "fractions" if pa.types.is_floating(kind) else f"type {on_one_line(str(kind))}"
    raise InputError(
        f"task.label: {place} has labels of {what}, but metric {metric.name!r} needs whole numbers or text; "
        f"for regression use {_names('regression')}"
    )


def _names(kind: str) -> str:
    return ", ".join(m.name for m in METRICS if m.kind == kind)


def _with_label(table: pa.Table, label: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index("label"), "label", label)
