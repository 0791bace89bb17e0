"""Tasks: texts with labels in separate splits, and the metric that judges a model on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydisc.errors import InputError
from raydisc.tasks.files import read_files
from raydisc.tasks.glue import read_glue
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.metrics import metric
from raydisc.tasks.named import read_named
from raydisc.tasks.reviews import make_reviews
from raydisc.tasks.source import TaskSource, is_list, selected
from raydisc.tasks.splits import apply_test_rule, keep_rows, overlap_notices

if TYPE_CHECKING:
    from raydisc.config.sections import TaskConfig


@dataclass(frozen=True)
class TaskData:
    """The data of a task, with encoded labels.

    Attributes:
        name: The name in tables and logs.
        kind: The kind of task (``raydisc.tasks.kinds``).
        classes: Class names in label order; empty for regression and language.
        text: The one or two columns that the texts come from.
        metric: Name of the metric (``raydisc.tasks.metrics``).
        max_length: The most tokens of a row; in a language task every row has this many.
        splits: ``train``, ``validation`` and ``test``: string columns ``text_0`` (``text_1``) and ``label``, an int64
            class index or a float32 number (none for language); for tokens lists of words and of class indices.
            ``unlabelled``, without ``label``, where the task came with a test that has no labels.
        fingerprint: SHA-256 of the contents and the settings above, hexadecimal.
        notices: Sentences for the user.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...]
    text: tuple[str, ...]
    metric: str
    max_length: int
    splits: Mapping[str, pa.Table]
    fingerprint: str
    notices: tuple[str, ...] = ()

    @property
    def num_labels(self) -> int:
        """The number of outputs of a classifier for this task: one for each class, one for regression."""
        return len(self.classes) or 1


def load_task(config: TaskConfig, name: str = "") -> TaskData:
    """Load and check the task of an experiment.

    Args:
        config: The ``task`` section of an experiment file.
        name: The name of the task; empty for the name that its source has.

    Raises:
        InputError: Files, columns, labels or the metric are wrong; the message says what and where.
    """
    source = _read(config)
    source = replace(source, metric=config.metric or source.metric)
    judge = metric(source.metric)
    kind = task_kind(judge.kind)
    if len(source.text) > kind.text_columns:
        raise InputError(
            f"task.text: metric {source.metric!r} is for texts of one column, but {', '.join(source.text)} are two"
        )
    if config.classes is not None and not kind.labelled:
        raise InputError(f"task.classes: metric {source.metric!r} judges a language model, which has no classes")
    classes, tables = kind.encode(selected(source, kind.words, kind.labelled), judge)
    splits, notices = apply_test_rule(tables, needs_labels=kind.labelled)
    if config.train_rows is not None:
        splits["train"], more = _cut(splits["train"], config.train_rows)
        notices += more
    task_name = name or source.name
    settings = [kind.name, list(classes), list(source.text), source.metric, config.max_length]
    return TaskData(
        name=task_name,
        kind=kind,
        classes=classes,
        text=source.text,
        metric=source.metric,
        max_length=config.max_length,
        splits=splits,
        fingerprint=_fingerprint(splits, settings),
        notices=source.notices + notices + overlap_notices(splits),
    )


def _read(config: TaskConfig) -> TaskSource:
    if config.glue is not None:
        return read_glue(config)
    if config.reviews is not None:
        return make_reviews(config)
    if config.name is not None:
        return read_named(config)
    return read_files(config)


def _cut(train: pa.Table, rows: int) -> tuple[pa.Table, tuple[str, ...]]:
    if rows >= train.num_rows:
        return train, (f"task.train_rows: {rows} asked for, all {train.num_rows} training rows are used",)
    return keep_rows(train, rows), ()


def _fingerprint(splits: Mapping[str, pa.Table], settings: Sequence[object]) -> str:
    """Return the SHA-256 of settings and values, which does not depend on the chunks that Arrow has them in."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for split, table in sorted(splits.items()):
        for name in table.column_names:
            column = table.column(name)
            digest.update(f"\0{split}\0{name}\0{column.type}\0{len(column)}\0".encode())
            if is_list(column):
                digest.update(pc.list_value_length(column).to_numpy().astype(np.int64).tobytes())
                column = pc.list_flatten(column)
            if pa.types.is_string(column.type):
                digest.update(pc.binary_length(column).to_numpy().astype(np.int64).tobytes())
                digest.update("".join(column.to_pylist()).encode())
            else:
                digest.update(column.to_numpy().tobytes())
    return digest.hexdigest()
