"""Teacher outputs: logits and matched hidden states of every training row, computed once or in every step.

Shape letters: N rows, T real tokens of all rows, K matched positions, D hidden size, C classes, B rows and S
tokens of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raydisc.errors import InputError
from raydisc.models.outputs import Outputs, forward
from raydisc.models.shared_memory import shared_tensor
from raydisc.tasks.batching import evaluation_batches
from raydisc.tasks.tokenised import Batch, Split

_HALF_BYTES, _FLOAT_BYTES = 2, 4


class TeacherSignal(Protocol):
    """Gives the teacher's outputs on a batch of training rows."""

    def outputs(self, batch: Batch) -> Outputs:
        """Logits ``[B, C]`` and K hidden states ``[B, S, D]``; padding positions hold anything finite."""
        ...


@dataclass(frozen=True)
class OnlineSignal:
    """Runs the frozen teacher in every step."""

    teacher: nn.Module
    positions: tuple[int, ...]
    on_forward: Callable[[Batch], None]

    def outputs(self, batch: Batch) -> Outputs:
        """See ``TeacherSignal``."""
        with torch.no_grad():
            result = forward(self.teacher, batch, self.positions)
        self.on_forward(batch)
        return result


class CachedSignal:
    """Reads outputs computed before; hidden states are kept in half precision.

    Args:
        logits: ``[N, C]`` float32.
        hidden: ``[T, K, D]`` float16, rows one after the other; K may be 0.
        lengths: real tokens of each row ``[N]``.
    """

    def __init__(self, logits: torch.Tensor, hidden: torch.Tensor, lengths: np.ndarray) -> None:
        """Wrap the tensors without copying them."""
        self.logits = logits
        self.hidden = hidden
        self._starts = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64))

    def outputs(self, batch: Batch) -> Outputs:
        """See ``TeacherSignal``."""
        rows = torch.from_numpy(batch.rows)
        device = batch.input_ids.device
        logits = self.logits[rows].to(device)
        if self.hidden.shape[1] == 0:
            return Outputs(logits, ())
        mask = batch.attention_mask.cpu()
        tokens = (self._starts[rows].unsqueeze(1) + mask.cumsum(dim=1) - 1).clamp(min=0)
        hidden = self.hidden.index_select(0, tokens.flatten()).to(device)
        return Outputs(logits, hidden.view(*mask.shape, *self.hidden.shape[1:]).unbind(dim=2))


def cache_bytes(num_rows: int, num_tokens: int, num_positions: int, hidden_size: int, num_labels: int) -> int:
    """Bytes that cached outputs take."""
    return num_tokens * num_positions * hidden_size * _HALF_BYTES + num_rows * num_labels * _FLOAT_BYTES


def compute_outputs(
    teacher: nn.Module,
    split: Split,
    positions: tuple[int, ...],
    pad_id: int,
    batch_size: int,
    on_batch: Callable[[Batch], None],
) -> CachedSignal:
    """Run the frozen teacher once over every row, in one fixed order, so that the bits do not depend on who asks.

    Raises:
        InputError: a hidden state is too large for half precision.
    """
    device = next(teacher.parameters()).device
    starts = np.concatenate([[0], np.cumsum(split.lengths)])
    logits, hidden = torch.empty(0), torch.empty(int(starts[-1]), 0, 0, dtype=torch.float16)
    teacher.eval()
    with torch.no_grad():
        for rows in evaluation_batches(split.lengths, batch_size):
            batch = split.batch(rows, pad_id).to(device)
            result = forward(teacher, batch, positions)
            if len(logits) == 0:
                logits = torch.empty(len(split), result.logits.shape[-1])
                width = result.hidden[0].shape[-1] if positions else 0
                hidden = torch.empty(len(hidden), len(positions), width, dtype=torch.float16)
            logits[torch.from_numpy(rows)] = result.logits.float().cpu()
            if positions:
                stacked = torch.stack(result.hidden, dim=2)[batch.attention_mask.bool()]
                hidden[_tokens_of(rows, starts)] = stacked.half().cpu()
            on_batch(batch)
    if not bool(torch.isfinite(hidden).all()):
        raise InputError("teacher_outputs: a hidden state of the teacher is beyond half precision; set source: online")
    return CachedSignal(logits, hidden, split.lengths)


def _tokens_of(rows: np.ndarray, starts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows]))


def to_tables(signal: CachedSignal) -> tuple[pa.Table, pa.Table]:
    """The outputs as Arrow, sharing their memory: one table of rows (logits), one of tokens (hidden states)."""
    tokens, positions, hidden_size = signal.hidden.shape
    flat = pa.array(signal.hidden.reshape(-1).numpy())
    hidden = pa.FixedSizeListArray.from_arrays(flat, max(1, positions * hidden_size))
    logits = pa.FixedSizeListArray.from_arrays(pa.array(signal.logits.reshape(-1).numpy()), signal.logits.shape[1])
    schema = pa.schema([pa.field("hidden", hidden.type)], metadata={"positions": str(positions)})
    return pa.table({"logits": logits}), pa.table([hidden], schema=schema)


def from_tables(logits: pa.Table, hidden: pa.Table, lengths: np.ndarray) -> CachedSignal:
    """Views of both tables' memory; neither is copied."""
    positions = int(hidden.schema.metadata[b"positions"])
    flat = _values(hidden, "hidden")
    shape = (int(lengths.sum()), positions, len(flat) // max(1, int(lengths.sum()) * positions))
    return CachedSignal(_values(logits, "logits").view(len(lengths), -1), flat.view(shape), lengths)


def _values(table: pa.Table, name: str) -> torch.Tensor:
    column = table.column(name)
    if len(column) == 0:
        return torch.empty(0, dtype=_DTYPES[name])
    if column.num_chunks > 1:
        raise ValueError(f"column {name} is in {column.num_chunks} chunks; it was written as one")
    return shared_tensor(column.chunk(0).values.to_numpy(zero_copy_only=True), _DTYPES[name])


_DTYPES = {"logits": torch.float32, "hidden": torch.float16}
