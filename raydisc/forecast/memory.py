"""The memory of a stage: its step runs on tensors without contents, and every allocation is counted.

PyTorch's fake tensors have shapes and lifetimes but no bytes, so the code that trains a model of any size and family
measures its memory on any machine.
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
    """A counter of the bytes of live tensors and of their peak.

    Attributes:
        now: The bytes of live tensors.
        peak: The most such bytes since ``forget``.
        gradients: The bytes of live gradients of parameters.
        gradients_at_peak: The bytes of gradients that were live at the peak.
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
        """Run an operation and count the tensors that it allocates; views allocate nothing."""
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
        """Count the tensors of an existing model."""
        for tensor in (*model.parameters(), *model.buffers()):
            self.note(tensor)

    def watch_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Count the gradients of parameters as they are computed."""
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._has_gradient)

    def _has_gradient(self, parameter: torch.Tensor) -> None:
        self._with_gradient[id(parameter)] = parameter.nbytes
        self.gradients = sum(self._with_gradient.values())

    def gradients_gone(self) -> None:
        """Note that the gradients of parameters are gone."""
        self._with_gradient.clear()
        self.gradients = 0

    def forget(self) -> None:
        """Restart the peak from what is live now."""
        self.peak, self.gradients_at_peak = self.now, self.gradients


@contextmanager
def without_contents() -> Iterator[None]:
    """Make tensors without contents within a ``with`` block."""
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
    """Return the bytes of a model's parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
