"""Teacher outputs: logits and matched hidden states of every training row, computed once or in every step.

Shape letters: N rows, T real tokens of all rows, K matched positions, D hidden size, C classes, B rows and S tokens
of a batch, U its real tokens and L its labels: one for each row, or its tags, or the tokens that a language model
predicts, each with k likeliest ones.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import nn

from raydisc.models.forward import Outputs, forward
from raydisc.models.precision import Precision
from raydisc.signals.cache import KeptOutputs, OutputsWriter, starts_of
from raydisc.signals.top_tokens import likeliest
from raydisc.tasks.batching import evaluation_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.tasks.words import places_of
from raydisc.training.inference import Pass


class TeacherSignal(Protocol):
    """Gives the teacher's outputs on a batch of training rows."""

    def outputs(self, batch: Batch) -> Outputs:
        """Logits ``[L, C]`` and K hidden states ``[B, S, D]``; padding positions hold anything finite.

        Of a language model logits ``[L, k + 1]`` and tokens ``[L, k]``, wherever they come from.
        """
        ...


@dataclass(frozen=True)
class OnlineSignal:
    """Runs the frozen teacher in every step; ``top_tokens`` is k, in a language task."""

    teacher: nn.Module
    positions: tuple[int, ...]
    on_forward: Callable[[Batch], None]
    precision: Precision = "float32"
    top_tokens: int = 1

    def outputs(self, batch: Batch) -> Outputs:
        """See ``TeacherSignal``."""
        with torch.no_grad():
            result = _said(forward(self.teacher, batch, self.positions, self.precision), batch, self.top_tokens)
        self.on_forward(batch)
        return result


class CachedSignal:
    """Reads outputs that were computed before; copies those of the batch and no others.

    Args:
        kept: the outputs of every row.
        lengths: real tokens of each row ``[N]``.
        label_counts: labels of each row ``[N]``; None where each has one.
    """

    def __init__(self, kept: KeptOutputs, lengths: np.ndarray, label_counts: np.ndarray | None = None) -> None:
        """Wrap the tensors without copying them."""
        counts = np.ones_like(lengths) if label_counts is None else label_counts
        self._starts, self._firsts, self._hidden = starts_of(lengths), starts_of(counts), kept.hidden
        # files from before there were tags have a row's labels side by side
        self._logits = kept.logits.view(int(counts.sum()), -1)
        self._tokens = None if kept.tokens is None else kept.tokens.view(len(self._logits), -1)

    def outputs(self, batch: Batch) -> Outputs:
        """See ``TeacherSignal``. Where tokens lie is known to the host, which waits for no device."""
        device = batch.input_ids.device
        labels = places_of(self._firsts[batch.rows], batch.label_counts)
        logits = _gathered(self._logits, labels, device)
        tokens = None if self._tokens is None else _gathered(self._tokens, labels, device).long()
        if self._hidden.shape[1] == 0:
            return Outputs(logits, (), tokens)
        size, longest = len(batch.rows), batch.input_ids.shape[1]
        # padding is given the row's last token
        within = np.minimum(np.arange(longest), batch.lengths[:, None] - 1)
        hidden = _gathered(self._hidden, (self._starts[batch.rows][:, None] + within).reshape(-1), device)
        # converted here, once for all candidates of a step
        states = hidden.to(logits.dtype).view(size, longest, *hidden.shape[1:]).unbind(dim=2)
        return Outputs(logits, states, tokens)


def _said(outputs: Outputs, batch: Batch, top_tokens: int) -> Outputs:
    """What a student hears of the teacher's outputs: of a language model the likeliest tokens."""
    if not batch.kind.over_vocabulary:
        return outputs
    logits, tokens = likeliest(outputs.logits, top_tokens)
    return replace(outputs, logits=logits, tokens=tokens)


def _gathered(source: torch.Tensor, places: np.ndarray, device: torch.device) -> torch.Tensor:
    """The entries at some places, on a device."""
    index = torch.from_numpy(places)
    if device.type != "cuda":
        return source.index_select(0, index).to(device)
    gathered = torch.empty(len(places), *source.shape[1:], dtype=source.dtype, pin_memory=True)
    return torch.index_select(source, 0, index, out=gathered).to(device, non_blocking=True)


class BeyondRange(ArithmeticError):
    """A hidden state is not a number, or too large for the type that it was to be kept in."""


def write_outputs(
    teacher: nn.Module,
    split: Split,
    positions: tuple[int, ...],
    pad_id: int,
    how: Pass,
    writer: OutputsWriter,
    top_tokens: int = 1,
) -> float:
    """Run the frozen teacher once over every row, in one fixed order, so that the bits do not depend on who asks.

    Each worker writes its share of every batch.

    Returns:
        The error that the hidden states' type brings: root mean square relative to that of the float32 ones.

    Raises:
        BeyondRange: the type cannot hold a hidden state.
    """
    squares = torch.zeros(2, dtype=torch.float64)
    for computed in _one_behind(_computed(teacher, split, positions, pad_id, how, writer.dtype, top_tokens)):
        found = how.rank.total(computed.norms.double().square())  # so that all workers stop, or none
        if not bool(found.isfinite().all()):
            raise BeyondRange
        squares += found
        writer.put(computed.rows, computed.logits, computed.hidden, computed.tokens)
    error, size = squares.tolist()
    return math.sqrt(error / size) if size else 0.0


@dataclass(frozen=True)
class _Computed:
    """A batch's outputs, in the host's memory once ``ready``.

    Attributes:
        rows: ``[B]``.
        logits: ``[L, C]`` float32, or ``[L, k + 1]``.
        tokens: ``[L, k]`` int32, in a language task.
        hidden: ``[U, K, D]`` as they are kept.
        norms: of what keeping changes in them, and of themselves ``[2]``.
        ready: none where the device is the host.
    """

    rows: np.ndarray
    logits: torch.Tensor
    tokens: torch.Tensor | None
    hidden: torch.Tensor
    norms: torch.Tensor
    ready: torch.cuda.Event | None


def _computed(
    teacher: nn.Module,
    split: Split,
    positions: tuple[int, ...],
    pad_id: int,
    how: Pass,
    dtype: torch.dtype,
    top_tokens: int,
) -> Iterator[_Computed]:
    device = next(teacher.parameters()).device
    teacher.eval()
    for batch in how.over(split, evaluation_batches(split.lengths, how.batch_size), pad_id, device):
        with torch.no_grad():
            result = _said(forward(teacher, batch, positions, how.precision), batch, top_tokens)
            states = _real_tokens(result, batch)
            hidden = states.to(dtype)
            # one number that is infinite or none shows in the norm
            norms = torch.stack([torch.dist(hidden.float(), states), torch.linalg.vector_norm(states)])
        tokens = None if result.tokens is None else _to_host(result.tokens.int())
        logits, hidden, norms = (_to_host(part) for part in (result.logits, hidden, norms))
        yield _Computed(batch.rows, logits, tokens, hidden, norms, _recorded(device))


def _real_tokens(result: Outputs, batch: Batch) -> torch.Tensor:
    """The hidden states of real tokens, row after row ``[U, K, D]`` float32."""
    longest = batch.input_ids.shape[1]
    if not result.hidden:
        return torch.empty(batch.real_tokens, 0, 0)
    real = np.flatnonzero(np.arange(longest) < batch.lengths[:, None])
    index = torch.from_numpy(real).to(batch.input_ids.device, non_blocking=True)
    return torch.stack([states.flatten(0, 1).index_select(0, index) for states in result.hidden], dim=1)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _recorded(device: torch.device) -> torch.cuda.Event | None:
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def _one_behind(batches: Iterator[_Computed]) -> Iterator[_Computed]:
    """The batches, each once it is in the host's memory; on a GPU the next one is computed meanwhile."""
    waiting: list[_Computed] = []
    for computed in batches:
        waiting.append(computed)
        if computed.ready is None or len(waiting) > 1:
            yield _arrived(waiting.pop(0))
    yield from map(_arrived, waiting)


def _arrived(computed: _Computed) -> _Computed:
    if computed.ready is not None:
        computed.ready.synchronize()
    return computed
