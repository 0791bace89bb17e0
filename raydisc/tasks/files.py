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
    """Read a Parquet, CSV or JSONL file; its extension says which.

    Args:
        path: The file; a relative path starts at the current folder.
        place: The setting that names the file, for error messages.

    Raises:
        InputError: The file does not exist, has another extension or has other contents than its extension says.
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
        " ".join(table.column_names).encode()  # names of columns, like texts, may not be UTF-8
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{place}: {str(path)!r} cannot be read as {suffix[1:]}: {reason_of(error)}") from error
    return table


def read_texts(path: str | Path, text: Sequence[str], words: bool = False) -> pa.Table:
    """Read rows to predict: the columns ``text`` as ``text_0`` (``text_1``), without labels.

    Raises:
        InputError: The file cannot be read (see ``read_table``), has no rows, or lacks a column of text.
    """
    return select_columns(read_table(path, "file"), text, None, f"{str(path)!r}", words=words)


def read_files(config: TaskConfig) -> TaskSource:
    """Read the files of a task.

    Raises:
        InputError: A file cannot be read; see ``read_table``.
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
    """Return the folder's name for ``folder/train.parquet``, otherwise the file's own name."""
    return train.parent.name if train.stem == "train" and train.parent.name else train.stem


def _read_parquet(path: Path) -> pa.Table:
    # A folder called `a=b` above the file must not become a column.
    return pyarrow.parquet.read_table(path, partitioning=None)


def _read_csv(path: Path) -> pa.Table:
    # A quoted text may have several lines.
    return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
