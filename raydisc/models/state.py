"""Weights by name, some of them in part or in another order: made when they are asked for, one at a time in memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

State = Mapping[str, torch.Tensor]
"""Weights by parameter name."""

Taking = tuple[int, torch.Tensor | int]
"""What is taken of a tensor along an axis: the places of an index, in its order, or the first so many."""


@runtime_checkable
class Described(Protocol):
    """Weights that are made when they are asked for, of which shape and type are known before."""

    def described(self, name: str) -> tuple[torch.Size, torch.dtype]:
        """A weight's shape and type, without making it."""
        ...


class PartState(State):
    """Weights of which some are taken in part.

    Args:
        source: all weights.
        takings: by name, one after the other; other weights are the source's.
    """

    def __init__(self, source: State, takings: Mapping[str, Sequence[Taking]]) -> None:
        """See the class."""
        self._source, self._takings = source, takings

    def __getitem__(self, name: str) -> torch.Tensor:
        """A weight: a contiguous copy where it was taken from the middle of rows or in another order."""
        tensor = self._source[name]
        for axis, taken in self._takings.get(name, ()):
            tensor = tensor.narrow(axis, 0, taken) if isinstance(taken, int) else tensor.index_select(axis, taken)
        return tensor.contiguous()

    def __iter__(self) -> Iterator[str]:
        """Names, in the source's order."""
        return iter(self._source)

    def __len__(self) -> int:
        """How many weights there are."""
        return len(self._source)

    def described(self, name: str) -> tuple[torch.Size, torch.dtype]:
        """A weight's shape and type, without making it."""
        whole, dtype = described(self._source, name)
        shape = list(whole)
        for axis, taken in self._takings.get(name, ()):
            shape[axis] = taken if isinstance(taken, int) else len(taken)
        return torch.Size(shape), dtype


def described(state: State, name: str) -> tuple[torch.Size, torch.dtype]:
    """A weight's shape and type, without making it where it is yet to be made."""
    if isinstance(state, Described):
        return state.described(name)
    return state[name].shape, state[name].dtype
