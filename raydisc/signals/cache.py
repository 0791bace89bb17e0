"""The cache of a model's outputs: Arrow files, one for each signal, filled row by row and read where they lie.

Shape letters: N rows, B rows of a batch, E entries of a signal (``raydisc.signals.base``), which are the labels or the
real tokens of all rows or of a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch

from raydisc.parallel.rank import ALONE, Rank
from raydisc.signals.base import ROUNDED_TYPES, Signal, SignalSizes
from raydisc.signals.registry import OF_EVERY_MODEL, SIGNALS
from raydisc.tasks.tokenised import table_from_buffer
from raydisc.tensors.shared_memory import shared_tensor

_ARROW_TYPES = {
    torch.float32: pa.float32(),
    torch.int32: pa.int32(),
    torch.float16: pa.float16(),
    torch.bfloat16: pa.uint16(),  # Arrow has no bfloat16, so its bits are kept.
}

KeptOutputs = Mapping[type[Signal], torch.Tensor]
"""The entries of every row ``[E, ...]``, by signal."""


@dataclass(frozen=True)
class OutputsShape(SignalSizes):
    """The sizes of a model's outputs, and the files that they take."""

    @property
    def signals(self) -> tuple[type[Signal], ...]:
        """The signals that have a file."""
        possible = (SIGNALS.get(field) for field in (*OF_EVERY_MODEL, *(field for field, _ in self.inner)))
        return tuple(signal for signal in possible if signal.has_file(self))

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(signal.file for signal in self.signals)

    @property
    def bytes(self) -> int:
        """The bytes of all entries; the type of rounded signals does not matter, as all of them take two bytes."""
        return sum(self.entries(signal) * self.entry_bytes(signal) for signal in self.signals)

    def entries(self, signal: type[Signal]) -> int:
        """Return the number of a signal's entries, E."""
        return self.tokens if signal.of_tokens else self.labels

    def entry_bytes(self, signal: type[Signal]) -> int:
        """Return the bytes of one entry of a signal."""
        return signal.width(self) * signal.kept_type("float16").itemsize


class OutputsWriter:
    """Writes outputs to their places in the files; no more than one batch is in memory.

    The files are full of zeros first, so that a full disk is an ``OSError`` before anything is computed.

    Args:
        folder: The folder of the files.
        shape: The sizes of the outputs.
        dtype: The name in ``ROUNDED_TYPES`` of the type of rounded signals.
        lengths: Real tokens of each row ``[N]``.
        rank: The rank of this worker. All workers write to the same files, each the rows that it computed.
        label_counts: Labels of each row ``[N]``; None where each has one.
    """

    def __init__(
        self,
        folder: Path,
        shape: OutputsShape,
        dtype: str,
        lengths: np.ndarray,
        rank: Rank = ALONE,
        label_counts: np.ndarray | None = None,
    ) -> None:
        """Create the files, or wait until they are there."""
        self.dtype = ROUNDED_TYPES[dtype]
        self.signals = shape.signals
        self._shape = shape
        labels = np.ones_like(lengths) if label_counts is None else label_counts
        self._counts = {True: lengths, False: labels}
        self._starts = {of_tokens: starts_of(counts) for of_tokens, counts in self._counts.items()}
        folder.mkdir(parents=True, exist_ok=True)
        rank.wait()  # until no worker writes to the files of an earlier attempt
        if rank.leads:
            for signal in self.signals:
                _write_zeros(folder / signal.file, signal, shape, dtype)
        rank.wait()
        self._offsets = {signal: _offset(folder / signal.file) for signal in self.signals}
        self._files = {signal: (folder / signal.file).open("r+b") for signal in self.signals}

    def put(self, rows: np.ndarray, outputs: KeptOutputs) -> None:
        """Write the outputs of some rows, which are in the host's memory.

        Args:
            rows: The numbers of the rows ``[B]``.
            outputs: The entries of each signal, row after row, in the type that the file has.
        """
        for signal in self.signals:
            values, begin = _array(outputs[signal]), 0
            starts, counts = self._starts[signal.of_tokens], self._counts[signal.of_tokens]
            for row in rows:
                end = begin + int(counts[row])
                self._files[signal].seek(self._offsets[signal] + int(starts[row]) * self._shape.entry_bytes(signal))
                self._files[signal].write(values[begin:end].data)
                begin = end

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Return the place of each row's first entry among those of all rows ``[N]``."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def read_outputs(images: Mapping[str, np.ndarray]) -> KeptOutputs:
    """Return views of the bytes of files; nothing is copied.

    Args:
        images: The contents ``[bytes]`` uint8 of each file, by its name.
    """
    kept = {}
    for file, image in images.items():
        signal, table = SIGNALS.get(file.removesuffix(".arrow")), table_from_buffer(pa.py_buffer(image))
        metadata = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
        flat = shared_tensor(
            _values(table).to_numpy(zero_copy_only=True), signal.kept_type(metadata.get("dtype", "float16"))
        )
        kept[signal] = flat.view(table.num_rows, *signal.read_shape(metadata))
    return kept


def empty_outputs(shape: OutputsShape) -> KeptOutputs:
    """Return zeros in place of outputs of these sizes."""
    return {
        signal: torch.zeros(shape.entries(signal), *signal.entry_shape(shape), dtype=signal.kept_type("float16"))
        for signal in shape.signals
    }


def _write_zeros(path: Path, signal: type[Signal], shape: OutputsShape, dtype: str) -> None:
    kind, width = _ARROW_TYPES[signal.kept_type(dtype)], signal.width(shape)
    count = shape.entries(signal) if width else 0
    # Pages of numpy's zeros take no memory until somebody writes to them.
    zeros = np.zeros(count * width * (kind.bit_width // 8), np.uint8)
    values = pa.Array.from_buffers(kind, count * width, [None, pa.py_buffer(zeros)])
    lists = pa.FixedSizeListArray.from_arrays(values, max(1, width))
    schema = pa.schema([pa.field("outputs", lists.type)], metadata=signal.metadata(shape, dtype))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table([lists], schema=schema))


def _offset(path: Path) -> int:
    """Return the bytes before the values of a file."""
    image = np.memmap(path, np.uint8, mode="r")
    values = _values(table_from_buffer(pa.py_buffer(image)))
    return int(values.buffers()[1].address - image.ctypes.data) if len(values) else 0


def _values(table: pa.Table) -> pa.Array:
    """Return the flat values of a file's only column, which has one chunk, or no chunk where it is empty."""
    column = table.column("outputs")
    return column.chunk(0).values if column.num_chunks else pa.array([], column.type.value_type)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's numbers; numpy has no bfloat16, so types of two bytes are read as integers."""
    whole = tensor.contiguous()
    array: np.ndarray = (whole.view(torch.int16) if whole.itemsize == 2 else whole).numpy()
    return array
