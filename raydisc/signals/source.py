"""The sources of a teacher's outputs on a batch: a cache, or the teacher itself, run in every step.

Shape letters: N rows, B rows and S tokens of a batch, L its labels, C classes, K matched positions, D hidden size, k
likeliest tokens of a language model, E entries of a signal (``raydisc.signals.base``).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from raydisc.models.forward import Outputs, forward
from raydisc.models.precision import Precision
from raydisc.signals.base import Signal
from raydisc.signals.cache import KeptOutputs, OutputsWriter, starts_of
from raydisc.signals.inner import InnerSignal
from raydisc.signals.top_tokens import Grouping, likeliest
from raydisc.tasks.batching import evaluation_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.tasks.words import places_of
from raydisc.training.inference import Pass

_ONE_TOKEN = Grouping()


class TeacherSignal(Protocol):
    """A source of the teacher's outputs on batches of training rows."""

    def outputs(self, batch: Batch) -> Outputs:
        """Return logits ``[L, C]`` and K hidden states ``[B, S, D]``; padding positions hold any finite numbers.

        In a language task there are logits ``[L, k + 1]`` and tokens ``[L, k]``, whatever the source.
        """
        ...


@dataclass(frozen=True)
class OnlineSignal:
    """A source that runs the frozen teacher in every step.

    Attributes:
        teacher: The model.
        positions: The positions whose hidden states are wanted.
        on_forward: Called with each batch that the teacher has run on.
        precision: The type of the teacher's matrix multiplications.
        grouping: The way in which predictions are kept in a language task.
        inner: The signals from inside the teacher that are wanted.
    """

    teacher: nn.Module
    positions: tuple[int, ...]
    on_forward: Callable[[Batch], None]
    precision: Precision = "float32"
    grouping: Grouping = _ONE_TOKEN
    inner: Sequence[type[InnerSignal]] = ()

    def outputs(self, batch: Batch) -> Outputs:
        """See ``TeacherSignal``."""
        with torch.no_grad():
            found = forward(self.teacher, batch, self.positions, self.precision, self.inner)
            result = _summarised(found, batch, self.grouping)
        self.on_forward(batch)
        return result


class CachedSignal:
    """A source that reads outputs which were computed before; it copies only those of the batch.

    Args:
        kept: The outputs of every row.
        lengths: Real tokens of each row ``[N]``.
        label_counts: Labels of each row ``[N]``; None where each has one.
    """

    def __init__(self, kept: KeptOutputs, lengths: np.ndarray, label_counts: np.ndarray | None = None) -> None:
        """Wrap the tensors without copying them."""
        counts = np.ones_like(lengths) if label_counts is None else label_counts
        self._starts, self._firsts = starts_of(lengths), starts_of(counts)
        labels = int(counts.sum())
        # Files from before there were tags have a row's labels side by side.
        wanted = {signal: entries if signal.of_tokens else entries.view(labels, -1) for signal, entries in kept.items()}
        self._kept = {signal: entries for signal, entries in wanted.items() if entries.shape[1:].numel()}

    def outputs(self, batch: Batch) -> Outputs:
        """See ``TeacherSignal``. The host knows the places of all entries and waits for no device."""
        device = batch.input_ids.device
        places = {of_tokens: self._places(batch, of_tokens) for of_tokens in {it.of_tokens for it in self._kept}}
        fields: dict[bool, dict[str, Any]] = {True: {}, False: {}}
        for signal, entries in self._kept.items():
            gathered = _gathered(entries, places[signal.of_tokens], device)
            fields[signal.inner][signal.field] = signal.restored(gathered, batch)
        return Outputs(**fields[False], inner=fields[True])

    def _places(self, batch: Batch, of_tokens: bool) -> np.ndarray:
        """Return the places of a batch's entries; those of padding are the places of its row's last token."""
        if not of_tokens:
            return places_of(self._firsts[batch.rows], batch.label_counts)
        within = np.minimum(np.arange(batch.input_ids.shape[1]), batch.lengths[:, None] - 1)
        places: np.ndarray = (self._starts[batch.rows][:, None] + within).reshape(-1)
        return places


def _summarised(outputs: Outputs, batch: Batch, grouping: Grouping) -> Outputs:
    """Return a language model's outputs with its likeliest tokens in place of the vocabulary, others as they are."""
    if not batch.kind.over_vocabulary:
        return outputs
    logits, tokens = likeliest(outputs.logits, grouping)
    return replace(outputs, logits=logits, tokens=tokens)


def _gathered(source: torch.Tensor, places: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return the entries at some places, on a device."""
    index = torch.from_numpy(places)
    if device.type != "cuda":
        return source.index_select(0, index).to(device)
    gathered = torch.empty(len(places), *source.shape[1:], dtype=source.dtype, pin_memory=True)
    return torch.index_select(source, 0, index, out=gathered).to(device, non_blocking=True)


class BeyondRange(ArithmeticError):
    """A number is not finite, or too large for the type that it was to be kept in."""


def write_outputs(
    teacher: nn.Module,
    split: Split,
    positions: tuple[int, ...],
    pad_id: int,
    how: Pass,
    writer: OutputsWriter,
    grouping: Grouping = _ONE_TOKEN,
) -> float:
    """Run the frozen teacher once over every row and write its outputs.

    Batches have one fixed order, so that the bits do not depend on who asks. Each worker writes its share of every
    batch.

    Args:
        teacher: The model.
        split: The rows.
        positions: The positions whose hidden states are kept.
        pad_id: The token that fills up shorter rows.
        how: The batch size, the precision and the rank of this worker.
        writer: The writer of the files.
        grouping: The way in which predictions are kept in a language task.

    Returns:
        The error of rounded signals: the root mean square of the rounding relative to that of the exact numbers.

    Raises:
        BeyondRange: A number cannot be kept in the writer's type.
    """
    squares = torch.zeros(2, dtype=torch.float64)
    for computed in _one_behind(_all_computed(teacher, split, positions, pad_id, how, writer, grouping)):
        # The norms of all workers, so that all of them stop at the same batch.
        found = how.rank.total(computed.norms.double().square().sum(dim=0))
        if not bool(found.isfinite().all()):
            raise BeyondRange
        squares += found
        writer.put(computed.rows, computed.entries)
        del computed  # on the CPU it would live through the next forward
    error, size = squares.tolist()
    return math.sqrt(error / size) if size else 0.0


@dataclass(frozen=True)
class Computed:
    """The outputs on a batch, in the host's memory once ``ready`` has passed.

    Attributes:
        rows: The numbers of the rows ``[B]``.
        entries: The entries of each signal as they are kept.
        norms: Of each rounded signal the norm of the rounding and that of the exact numbers ``[R, 2]``.
        ready: The end of the copies from a GPU; None where the outputs were computed on the host.
    """

    rows: np.ndarray
    entries: Mapping[type[Signal], torch.Tensor]
    norms: torch.Tensor
    ready: torch.cuda.Event | None


def _all_computed(
    teacher: nn.Module,
    split: Split,
    positions: tuple[int, ...],
    pad_id: int,
    how: Pass,
    writer: OutputsWriter,
    grouping: Grouping,
) -> Iterator[Computed]:
    device = next(teacher.parameters()).device
    teacher.eval()
    for batch in how.over(split, evaluation_batches(split.lengths, how.batch_size), pad_id, device):
        yield computed_on(teacher, batch, positions, how.precision, writer.signals, writer.dtype, grouping)


@torch.no_grad()
def computed_on(
    teacher: nn.Module,
    batch: Batch,
    positions: tuple[int, ...],
    precision: Precision,
    signals: Sequence[type[Signal]],
    dtype: torch.dtype,
    grouping: Grouping,
) -> Computed:
    """Run the frozen teacher on a batch; on its device nothing of that is left.

    Args:
        teacher: The model, in the mode of evaluation.
        batch: The rows.
        positions: The positions whose hidden states are kept.
        precision: The precision to compute in.
        signals: The signals that are kept.
        dtype: The type of rounded signals.
        grouping: The way in which predictions are kept in a language task.
    """
    inner = [signal for signal in signals if signal.inner]
    result = _summarised(forward(teacher, batch, positions, precision, inner), batch, grouping)
    entries = {signal: signal.taken(result, batch) for signal in signals}
    norms = []
    for signal in (it for it in signals if it.dtype is None):
        exact = entries[signal]
        entries[signal] = rounded = exact.to(dtype)
        # A number that is infinite or not a number shows in the norm.
        norms.append(
            torch.stack([torch.linalg.vector_norm(rounded.float().sub_(exact)), torch.linalg.vector_norm(exact)])
        )
    kept = {signal: _to_host(values) for signal, values in entries.items()}
    return Computed(batch.rows, kept, _to_host(torch.stack(norms)), _recorded(batch.input_ids.device))


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


def _one_behind(batches: Iterator[Computed]) -> Iterator[Computed]:
    """Yield each batch once it is in the host's memory; on a GPU the next one is computed meanwhile."""
    waiting: list[Computed] = []
    for computed in batches:
        waiting.append(computed)
        del computed  # see ``write_outputs``
        if waiting[0].ready is None or len(waiting) > 1:
            yield _arrived(waiting.pop(0))
    yield from map(_arrived, waiting)


def _arrived(computed: Computed) -> Computed:
    if computed.ready is not None:
        computed.ready.synchronize()
    return computed
