"""Tasks in local Parquet, CSV and JSONL files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from raydisc.errors import InputError, reason_of
from raydisc.tasks.source import TaskSource, select_columns

if TYPE_CHECKING:
    from raydisc.config.sections import TaskConfig


def read_table(path: str | Path, place: str) -> pa.Table:
    """Reads a Parquet, CSV or JSONL file, told apart by its extension.

    Args:
        path: The file; a relative path starts at the current folder.
        place: The setting that named it, for errors.

    Raises:
        InputError: No such file, another extension, or content that is not what the extension says.
    """
    path = Path(path)
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": pyarrow.json.read_json}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise InputError(
            f"{place}: {str(path)!r} has the extension {path.suffix!r}; the files that are read are "
            f"{', '.join(readers)}"
        )
    if not path.is_file():
        raise InputError(f"{place}: the file {str(path)!r} does not exist; relative paths start at the current folder")
    try:
        table = readers[suffix](path)
        table.validate(full=True)
        " ".join(table.column_names).encode()  # as the texts in it, they may be no UTF-8
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{place}: {str(path)!r} cannot be read as {suffix[1:]}: {reason_of(error)}") from error
    return table


def read_texts(path: str | Path, text: Sequence[str], words: bool = False) -> pa.Table:
    """Reads rows to predict: the columns `text` as `text_0` (`text_1`), texts or lists of words; no labels.

    Raises:
        InputError: As for `read_table`, no rows, a missing column, or one that does not hold text.
    """
    return select_columns(read_table(path, "file"), text, None, f"{str(path)!r}", words=words)


def read_files(config: TaskConfig) -> TaskSource:
    """Reads the files of a task; a test without labels has no `label` column.

    Raises:
        InputError: A file, column or row is not as it must be.
    """
    paths = {"train": config.train, "validation": config.validation, "test": config.test}
    given = {split: path for split, path in paths.items() if path is not None}
    return TaskSource(
        splits={split: read_table(path, f"task.{split}") for split, path in given.items()},
        text=tuple(config.text),
        metric=config.metric or "",
        label=config.label,
        classes=None if config.classes is None else tuple(config.classes),
        name=_name(Path(str(config.train))),
        places={split: f"{split} file {str(path)!r}" for split, path in given.items()},
    )


def _name(train: Path) -> str:
    """The folder of `folder/train.parquet`, else the file's own name."""
    return train.parent.name if train.stem == "train" and train.parent.name else train.stem


def _read_parquet(path: Path) -> pa.Table:
    # A folder called `a=b` above the file is no column of it.
    return pyarrow.parquet.read_table(path, partitioning=None)


def _read_csv(path: Path) -> pa.Table:
    # A quoted text may run over several lines.
    return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
