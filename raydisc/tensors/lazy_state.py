"""Weights by name, some of them in part or in another order: made when they are asked for, one at a time in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

State = Mapping[str, torch.Tensor]
"""Weights by parameter name."""

Taking = Callable[[torch.Tensor], torch.Tensor]
"""What is taken of a tensor: its first units, or all in another order."""


@runtime_checkable
class Described(Protocol):
    """Weights that are made when they are asked for, of which shape and type are known before."""

    def described(self, name: str) -> torch.Tensor:
        """A tensor without contents that has a weight's shape and type."""
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
        return self._taken(name, self._source[name]).contiguous()

    def __iter__(self) -> Iterator[str]:
        """Names, in the source's order."""
        return iter(self._source)

    def __len__(self) -> int:
        """How many weights there are."""
        return len(self._source)

    def described(self, name: str) -> torch.Tensor:
        """A tensor without contents that has a weight's shape and type."""
        return self._taken(name, described(self._source, name))

    def _taken(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        for taking in self._takings.get(name, ()):
            tensor = taking(tensor)
        return tensor


def described(state: State, name: str) -> torch.Tensor:
    """A tensor on the meta device that has a weight's shape and type; it is not made where it is yet to be made."""
    if isinstance(state, Described):
        return state.described(name)
    return torch.empty(state[name].shape, dtype=state[name].dtype, device="meta")
