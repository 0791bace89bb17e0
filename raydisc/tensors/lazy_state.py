"""Weights by name, some of them in part or in another order; each is made when it is asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

State = Mapping[str, torch.Tensor]
"""Weights by parameter name."""

Taking = Callable[[torch.Tensor], torch.Tensor]
"""The part that is taken of a tensor: its first units, or all of it in another order."""


@runtime_checkable
class Described(Protocol):
    """Weights that are made when they are asked for, but whose shape and type are known before."""

    def described(self, name: str) -> torch.Tensor:
        """Return a tensor without contents that has the shape and type of a weight."""
        ...


class PartState(State):
    """Weights of which some are taken in part.

    Args:
        source: All weights.
        takings: The parts to take, by the name of the weight, one after the other; other weights are left whole.
    """

    def __init__(self, source: State, takings: Mapping[str, Sequence[Taking]]) -> None:
        """Create the state; no weight is made yet."""
        self._source, self._takings = source, takings

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a weight, as a contiguous copy if it was taken from the middle of rows or in another order."""
        return self._taken(name, self._source[name]).contiguous()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order of the source."""
        return iter(self._source)

    def __len__(self) -> int:
        """Return the number of weights."""
        return len(self._source)

    def described(self, name: str) -> torch.Tensor:
        """Return a tensor without contents that has the shape and type of a weight."""
        return self._taken(name, described(self._source, name))

    def _taken(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        for taking in self._takings.get(name, ()):
            tensor = taking(tensor)
        return tensor


def described(state: State, name: str) -> torch.Tensor:
    """Return a tensor on the meta device with the shape and type of a weight, without making the weight."""
    if isinstance(state, Described):
        return state.described(name)
    return torch.empty(state[name].shape, dtype=state[name].dtype, device="meta")
