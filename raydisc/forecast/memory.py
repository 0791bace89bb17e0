"""Memory of a stage: its step is run on tensors without contents, and every allocation is counted.

PyTorch's fake tensors have shapes and lifetimes but no bytes, so that a model of any size is measured on any machine,
whatever its family, by the code that trains it.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.tokenised import Batch


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors that live, and their peak.

    Attributes:
        now: bytes that live.
        peak: the most since ``forget``.
        gradients: bytes of parameters' gradients that live.
        gradients_at_peak: those that lived at the peak.
    """

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.gradients = self.gradients_at_peak = 0
        self._live: dict[int, int] = {}
        self._with_gradient: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made; views, of whatever memory, are not made."""
        given = {it.untyped_storage()._cdata for it in tree_leaves((args, kwargs)) if isinstance(it, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self.note(tensor)
        return made

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage from now until it is freed, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self.now += storage.nbytes()
        if self.now > self.peak:
            self.peak, self.gradients_at_peak = self.now, self.gradients
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self._live.pop(key)

    def watch(self, model: nn.Module) -> None:
        """Count a model that is there already."""
        for tensor in (*model.parameters(), *model.buffers()):
            self.note(tensor)

    def watch_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Know when parameters get their gradients."""
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._has_gradient)

    def _has_gradient(self, parameter: torch.Tensor) -> None:
        self._with_gradient[id(parameter)] = parameter.nbytes
        self.gradients = sum(self._with_gradient.values())

    def gradients_gone(self) -> None:
        """Tell that parameters have no gradients any more."""
        self._with_gradient.clear()
        self.gradients = 0

    def forget(self) -> None:
        """Let the peak begin anew."""
        self.peak, self.gradients_at_peak = self.now, self.gradients


@contextmanager
def without_contents() -> Iterator[None]:
    """Tensors that are made here have no bytes."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def empty_batch(rows: int, length: int, types: bool, kind: TaskKind) -> Batch:
    """Return a batch of a shape with as many labels as there can be, and padding in its last row if there is any."""
    lengths = np.full(rows, length, np.int64)
    if kind.padded:
        lengths[-1] = max(1, length - 1)
    ids = torch.zeros(rows, length, dtype=torch.int64)
    labels, tagged = kind.blank_labels(ids)
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        token_type_ids=torch.zeros_like(ids) if types else None,
        labels=labels,
        rows=np.zeros(rows, np.int64),
        lengths=lengths,
        kind=kind,
        tagged=tagged,
    )


def bytes_of(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
