"""The ledger: immutable Parquet parts under ``STORAGE/ledger/TABLE/``, the only source of reports."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from raydisc.errors import InputError, reason_of
from raydisc.report.schema import IDENTITY, REQUIRED, SCHEMAS, WRITTEN_AT
from raydisc.storage.address import storage_at
from raydisc.storage.folder import Storage
from raydisc.storage.fsync import sync

PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Ledger:
    """Tables of immutable Parquet parts.

    A part is written once, atomically (temporary name, fsync, rename) and never changed; its name ends in a
    hash of its contents, so writing the same rows again does nothing, and other rows under the same name
    become another part. Readers see the last finished row of each thing (see
    ``raydisc.report.schema.IDENTITY``).
    """

    def __init__(self, root: Storage | Path) -> None:
        """Open the ledger in ``root`` (``STORAGE/ledger``), which the first write creates."""
        self.files = storage_at(root)
        self.root = self.files.folder
        self._read: dict[str, tuple[frozenset[str], pa.Table]] = {}

    def write(self, table: str, rows: Sequence[Mapping[str, Any]], part: str) -> None:
        """Write rows as one part; an empty sequence of rows leaves no part.

        Args:
            table: One of ``raydisc.report.schema.SCHEMAS``, but for ``predictions`` (see ``write_predictions``).
            rows: Column → value; a column left out is null.
            part: First half of the part's file name: letters, digits, ``.``, ``_``, ``-`` (a stage key, say).

        Raises:
            ValueError: The table does not exist or is ``predictions``, a row has a column that the table lacks, or
                the name cannot be a file name.
        """
        schema = _schema(table)
        if table == "predictions":
            raise ValueError("predictions are written by write_predictions, whose parts are found by their key")
        unknown = {name for row in rows for name in row} - set(schema.names)
        if unknown:
            raise ValueError(f"ledger table {table!r} has no column {', '.join(sorted(unknown))}")
        if rows:
            plain = [{name: row.get(name) for name in schema.names if name != WRITTEN_AT} for row in rows]
            self._write(table, pa.Table.from_pylist(plain, schema=_unstamped(schema)), part)

    def has(self, table: str, part: str) -> bool:
        """Whether the table has a part of this name."""
        return any(name.startswith(f"{part}-") for name in self._parts(table))

    def write_predictions(
        self,
        key: str,
        split: str,
        scale: float | None,
        predictions: np.ndarray,
        labels: np.ndarray,
        part: str,
    ) -> None:
        """Write one model's per-example predictions on one split as one part, if there are any.

        Args:
            key: The stage whose predictions these are.
            split: ``validation`` or ``test``.
            scale: The candidate's scale, or None where the stage made one model.
            predictions: ``[N, C]`` logits, or ``[N]`` numbers, in the order of the split's rows.
            labels: ``[N]``.
            part: As for ``write``, beginning with the key; of a candidate best ``KEY-SCALE``, by which it is found.

        Raises:
            ValueError: The part's name does not begin with the key.
        """
        if not part.startswith(key):
            raise ValueError(f"the part {part!r} of predictions must begin with their key {key!r}")
        count = len(labels)
        if count == 0:
            return
        flat = pa.array(np.ascontiguousarray(predictions, dtype=np.float32).reshape(-1))
        offsets = np.arange(count + 1, dtype=np.int32) * (len(flat) // count)
        columns = {
            "key": pa.array([key] * count, pa.string()),
            "split": pa.array([split] * count, pa.string()),
            "scale": pa.array([scale] * count, pa.float64()),
            "row": pa.array(np.arange(count)),
            "prediction": pa.ListArray.from_arrays(pa.array(offsets), flat),
            "label": pa.array(np.asarray(labels, dtype=np.float64)),
        }
        self._write("predictions", pa.table(columns, schema=_unstamped(_schema("predictions"))), part)

    def read(self, table: str, keys: Sequence[str] | None = None, latest: bool = True, **where: Any) -> pd.DataFrame:
        """Return rows of a table as a DataFrame, which has all columns even where it has no rows.

        Args:
            table: One of ``raydisc.report.schema.SCHEMAS``.
            keys: Only rows with these stage keys.
            latest: Only the last finished row of each thing; False gives every row ever written.
            **where: Only rows whose column equals the value, or is one of a list of values; None means null.

        Raises:
            InputError: A part cannot be read.
        """
        return self._select(table, keys, latest, where).to_pandas()

    def rows(
        self, table: str, keys: Sequence[str] | None = None, latest: bool = True, **where: Any
    ) -> list[dict[str, Any]]:
        """Return what ``read`` returns as plain dictionaries, with None for null."""
        rows: list[dict[str, Any]] = self._select(table, keys, latest, where).to_pylist()
        return rows

    def predictions(self, key: str, split: str, scale: float | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Return one model's stored predictions ``[N, C]`` float32 and labels ``[N]`` by row; None without any."""
        # Reading every part of a large storage for each model would take minutes: their names say whose they are.
        of_key = [name for name in self._parts("predictions") if name.startswith(key)]
        parts = [name for name in of_key if scale is not None and name.startswith(f"{key}-{scale:g}-")] or of_key
        if not parts:
            return None
        conditions = _conditions("predictions", [key], {"split": split, "scale": scale})
        found = _latest("predictions", self._of_parts("predictions", parts, conditions))
        if found.num_rows == 0:
            return None
        found = found.sort_by("row").combine_chunks()
        flat = found["prediction"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(found.num_rows, -1), found["label"].to_numpy()

    def _write(self, table: str, rows: pa.Table, part: str) -> None:
        if not PART_NAME.fullmatch(part):
            raise ValueError(f"{part!r} cannot be the name of a ledger part")
        name = f"{table}/{part}-{_digest(rows)}.parquet"
        if self.files.has(name):
            return
        target = self.files.path(name)
        folder = target.parent
        folder.mkdir(parents=True, exist_ok=True)
        stamped = rows.append_column(WRITTEN_AT, pa.array([now()] * rows.num_rows, pa.string()))
        # Readers skip names that begin with a dot, so a part is there as a whole or not at all.
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("wb") as file:
                pq.write_table(stamped, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync(folder)
        self.files.publish(name)

    def _parts(self, table: str) -> list[str]:
        """Return file names of a table's parts."""
        return [name for name in self.files.names(table) if name.endswith(".parquet") and not name.startswith(".")]

    def _select(self, table: str, keys: Sequence[str] | None, latest: bool, where: Mapping[str, Any]) -> pa.Table:
        conditions = _conditions(table, keys, where)
        if table == "predictions":  # far larger than all others
            found = self._of_parts(table, self._parts(table), conditions)
        else:
            found = self._all(table)
            found = found if conditions is None else found.filter(conditions)
        return _latest(table, found) if latest else found.take(_in_order(found.select([WRITTEN_AT]).to_pandas()))

    def _all(self, table: str) -> pa.Table:
        """Return all rows of a table. Parts never change: what this ledger has read before is not read again."""
        parts = frozenset(self._parts(table))
        known, rows = self._read.get(table, (frozenset[str](), _schema(table).empty_table()))
        if not known <= parts:  # somebody has removed some
            known, rows = frozenset(), rows.slice(0, 0)
        if new := sorted(parts - known):
            rows = pa.concat_tables([rows, self._of_parts(table, new)]).combine_chunks()
            self._read[table] = parts, rows
        return rows

    def _of_parts(self, table: str, parts: Sequence[str], conditions: ds.Expression | None = None) -> pa.Table:
        if not parts:
            return _schema(table).empty_table()
        folder = self.files.path(table).resolve()
        files = [path.resolve() for path in self.files.fetch([f"{table}/{name}" for name in parts])]
        try:
            inside = [str(path) for path in files if path.is_relative_to(folder)]
            source = ds.dataset(inside, _schema(table), format="parquet")
            found = source.to_table(filter=conditions)
            found.validate(full=True)
            for column in REQUIRED[table]:
                if found[column].null_count:
                    lacking = source.to_table(columns=["__filename"], filter=ds.field(column).is_null())
                    raise pa.ArrowInvalid(f"{lacking['__filename'][0]}: a row has no '{column}'")
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"the ledger's '{self.files / table}' cannot be read ({reason_of(error)}); remove the part that is "
                "named there, and its key's part of 'stages', and resume the run: it writes both again"
            ) from error
        return found


def now() -> str:
    """Return the time in UTC, ISO 8601 with microseconds: the order of the text is the order in time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _schema(table: str) -> pa.Schema:
    if table not in SCHEMAS:
        raise ValueError(f"the ledger has no table {table!r}; it has {', '.join(SCHEMAS)}")
    return SCHEMAS[table]


def _unstamped(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index(WRITTEN_AT))


def _digest(rows: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return hashlib.sha256(sink.getvalue()).hexdigest()[:12]


def _conditions(table: str, keys: Sequence[str] | None, where: Mapping[str, Any]) -> ds.Expression | None:
    schema = _schema(table)
    wanted = dict(where) if keys is None else {**where, "key": list(keys)}
    conditions = [_condition(schema.field(name), value) for name, value in wanted.items()]
    return reduce(and_, conditions) if conditions else None


def _condition(column: pa.Field, value: Any) -> ds.Expression:
    field = ds.field(column.name)
    if value is None:
        return field.is_null()
    # Typed, because a list of nothing has no type of its own.
    return field.isin(pa.array(value, column.type)) if isinstance(value, list | tuple) else field == value


def _latest(table: str, found: pa.Table) -> pa.Table:
    """Return the last finished row of each thing, in the order of writing."""
    state = [] if "state" not in found.column_names else ["state"]
    frame = found.select([*IDENTITY[table], *state, WRITTEN_AT]).to_pandas()
    finished = frame["state"] == "finished" if state else frame[WRITTEN_AT].notna()
    best = frame.assign(finished=finished).sort_values(["finished", WRITTEN_AT], kind="stable")
    return found.take(_in_order(best.drop_duplicates(list(IDENTITY[table]), keep="last")))


def _in_order(frame: pd.DataFrame) -> pa.Array:
    """Return the row numbers of a frame in the order of writing."""
    return pa.array(frame.sort_values(WRITTEN_AT, kind="stable").index.to_numpy())
