"""How outputs are kept: Arrow files, filled row by row and read where they lie.

Shape letters: N rows, T real tokens of all rows, K matched positions, D hidden size, C classes, B rows of a batch and
U their real tokens. A row has one label, or many: a token classifier's tags, a language model's predicted tokens, with
k likeliest ones for each. A are the labels of all rows, L those of a batch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch

from raydisc.parallel.rank import ALONE, Rank
from raydisc.tasks.tokenised import table_from_buffer
from raydisc.tensors.shared_memory import shared_tensor

HIDDEN_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that hidden states are kept in, by their names in the experiment file; two bytes each."""

LOGITS_FILE, HIDDEN_FILE, TOKENS_FILE = "logits.arrow", "hidden.arrow", "tokens.arrow"

_ARROW_TYPES = {"float16": pa.float16(), "bfloat16": pa.uint16()}  # Arrow has no bfloat16: its bits are kept
_HALF_BYTES, _FLOAT_BYTES = 2, 4


@dataclass(frozen=True)
class OutputsShape:
    """The size of a model's outputs on a split.

    Attributes:
        rows: N.
        tokens: T.
        positions: K.
        hidden_size: D.
        num_logits: of a label: C, or k + 1.
        num_tokens: that a label names: k; none but in a language task.
        num_labels: A; None where each row has one.
    """

    rows: int
    tokens: int
    positions: int
    hidden_size: int
    num_logits: int
    num_tokens: int = 0
    num_labels: int | None = None

    @property
    def labels(self) -> int:
        """A."""
        return self.rows if self.num_labels is None else self.num_labels

    @property
    def bytes(self) -> int:
        """Bytes that they take where they are kept."""
        return self.tokens * self.token_bytes + self.labels * self.label_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's hidden states."""
        return self.positions * self.hidden_size * _HALF_BYTES

    @property
    def label_bytes(self) -> int:
        """Bytes of one label's logits and of the tokens that it names."""
        return (self.num_logits + self.num_tokens) * _FLOAT_BYTES

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that they are kept in."""
        return (LOGITS_FILE, HIDDEN_FILE, TOKENS_FILE) if self.num_tokens else (LOGITS_FILE, HIDDEN_FILE)


@dataclass(frozen=True)
class KeptOutputs:
    """Outputs of every row, wherever they lie.

    Attributes:
        logits: ``[A, C]`` float32, or ``[A, k + 1]``, rows one after the other.
        hidden: ``[T, K, D]`` float16 or bfloat16, rows one after the other; K may be 0.
        tokens: ``[A, k]`` int32, in a language task.
    """

    logits: torch.Tensor
    hidden: torch.Tensor
    tokens: torch.Tensor | None = None


class OutputsWriter:
    """Writes outputs to their places in the files; nothing but the batch at hand is in memory.

    The files are full of zeros first, so that a full disk is an ``OSError`` before anything is computed.

    Args:
        folder: where the files go.
        shape: of the outputs.
        dtype: a name of ``HIDDEN_DTYPES``.
        lengths: real tokens of each row ``[N]``.
        rank: of this worker; all write to the same files, each the rows that it computed.
        label_counts: labels of each row ``[N]``; None where each has one.
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
        self.dtype = HIDDEN_DTYPES[dtype]
        self._shape, self._lengths, self._starts = shape, lengths, starts_of(lengths)
        self._counts = np.ones_like(lengths) if label_counts is None else label_counts
        self._firsts = starts_of(self._counts)
        width = shape.positions * shape.hidden_size
        metadata = {"positions": str(shape.positions), "hidden_size": str(shape.hidden_size), "dtype": dtype}
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in shape.files]
        rank.wait()  # until nobody writes to those before
        if rank.leads:
            _write_zeros(paths[0], pa.float32(), shape.labels, shape.num_logits, {})
            _write_zeros(paths[1], _ARROW_TYPES[dtype], shape.tokens if width else 0, max(1, width), metadata)
            if shape.num_tokens:
                _write_zeros(paths[2], pa.int32(), shape.labels, shape.num_tokens, {})
        rank.wait()
        self._places = tuple(map(_offset, paths))
        self._files = tuple(path.open("r+b") for path in paths)

    def put(
        self, rows: np.ndarray, logits: torch.Tensor, hidden: torch.Tensor, tokens: torch.Tensor | None = None
    ) -> None:
        """Write some rows' outputs, which are in the host's memory.

        Args:
            rows: their numbers ``[B]``.
            logits: ``[L, C]`` float32, or ``[L, k + 1]``.
            hidden: ``[U, K, D]`` of the writer's type, row after row.
            tokens: ``[L, k]`` int32, in a language task.
        """
        states, begin, label = hidden.contiguous().view(torch.int16).numpy(), 0, 0
        said = logits.contiguous().numpy()
        named = None if tokens is None else tokens.contiguous().numpy()
        for row in rows:
            first, last = int(self._firsts[row]), label + int(self._counts[row])
            self._write(0, first * self._shape.num_logits * _FLOAT_BYTES, said[label:last])
            if named is not None:
                self._write(2, first * self._shape.num_tokens * _FLOAT_BYTES, named[label:last])
            end = begin + int(self._lengths[row])
            self._write(1, int(self._starts[row]) * self._shape.token_bytes, states[begin:end])
            begin, label = end, last

    def _write(self, file: int, offset: int, values: np.ndarray) -> None:
        self._files[file].seek(self._places[file] + offset)
        self._files[file].write(values.data)

    def __enter__(self) -> Self:
        """The writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """The place of each row's first token, or label, among those of all rows ``[N]``."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def _write_zeros(path: Path, kind: pa.DataType, count: int, width: int, metadata: dict[str, str]) -> None:
    # numpy's zeros are pages that nobody has touched: they take no memory, however many
    zeros = np.zeros(count * width * (kind.bit_width // 8), np.uint8)
    values = pa.Array.from_buffers(kind, count * width, [None, pa.py_buffer(zeros)])
    lists = pa.FixedSizeListArray.from_arrays(values, width)
    schema = pa.schema([pa.field("outputs", lists.type)], metadata=metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table([lists], schema=schema))


def _offset(path: Path) -> int:
    """Bytes before the values of a file."""
    image = np.memmap(path, np.uint8, mode="r")
    values = _values(table_from_buffer(pa.py_buffer(image)))
    return int(values.buffers()[1].address - image.ctypes.data) if len(values) else 0


def read_images(
    logits_image: np.ndarray, hidden_image: np.ndarray, tokens_image: np.ndarray | None = None
) -> KeptOutputs:
    """Views of the files' bytes ``[bytes]`` uint8; none is copied."""
    logits, hidden = (table_from_buffer(pa.py_buffer(image)) for image in (logits_image, hidden_image))
    tokens = None if tokens_image is None else table_from_buffer(pa.py_buffer(tokens_image))
    metadata = {name.decode(): value.decode() for name, value in hidden.schema.metadata.items()}
    states = _tensor(hidden, HIDDEN_DTYPES[metadata["dtype"]])
    return KeptOutputs(
        _tensor(logits, torch.float32).view(logits.num_rows, -1),
        states.view(hidden.num_rows, int(metadata["positions"]), int(metadata["hidden_size"])),
        None if tokens is None else _tensor(tokens, torch.int32).view(tokens.num_rows, -1),
    )


def _tensor(table: pa.Table, dtype: torch.dtype) -> torch.Tensor:
    return shared_tensor(_values(table).to_numpy(zero_copy_only=True), dtype)


def _values(table: pa.Table) -> pa.Array:
    """The flat values of a file's only column, which is one chunk as it was written, or none where it is empty."""
    column = table.column("outputs")
    return column.chunk(0).values if column.num_chunks else pa.array([], column.type.value_type)
