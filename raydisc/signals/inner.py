"""Signals that are made of what modules inside a model compute, such as the values of a layer's heads.

Shape letters: U real tokens of a batch, W numbers of a token, B rows and S tokens of a batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

import torch

from raydisc.families.base import Config
from raydisc.models.forward import Outputs
from raydisc.signals.base import Signal, SignalSizes
from raydisc.signals.hidden import of_real_tokens
from raydisc.signals.registry import SIGNALS
from raydisc.tasks.tokenised import Batch


class StudentSignal(ABC):
    """Numbers of each token from inside a student, which losses of the student alone name in ``needs_of_student``.

    Nothing of it is computed or kept of the teacher. It is a class without state that is never instantiated, and is not
    registered: a loss brings it along.

    Attributes:
        field: The key of ``Outputs.inner`` that holds the signal.
    """

    field: ClassVar[str]

    @classmethod
    @abstractmethod
    def modules(cls, config: Config) -> Sequence[str]:
        """Return the paths of the modules whose outputs make the signal, in the order in which the model calls them.

        Args:
            config: The configuration of the model: the teacher's, or that of a structure (``Structure.model_config``).

        Returns:
            The paths; none if such a model has nothing of this kind, where losses that read the signal are left out.
        """

    @classmethod
    @abstractmethod
    def made_of(cls, computed: Sequence[torch.Tensor], config: Config) -> torch.Tensor:
        """Return the numbers of each token ``[B, S, W]`` that the outputs of the modules make, in their order."""


class InnerSignal(StudentSignal, Signal):
    """Numbers of each token ``[U, W]`` from inside student and teacher, rounded to two bytes where they are kept.

    A subclass says which modules compute them and how many there are; its ``field`` is its name. ``modules`` are of
    every model, the teacher's among them.
    """

    of_tokens = True
    dtype = None
    inner: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def numbers(cls, config: Config) -> int:
        """Return the numbers of a token, W, which are the same for the teacher and for every model cut from it."""

    @classmethod
    def entry_shape(cls, sizes: SignalSizes) -> tuple[int, ...]:
        """See ``Signal``."""
        return (dict(sizes.inner).get(cls.field, 0),)

    @classmethod
    def taken(cls, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """See ``Signal``."""
        return of_real_tokens(outputs.inner[cls.field], batch)

    @classmethod
    def restored(cls, entries: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the numbers of each token ``[B, S, W]`` float32."""
        return entries.float().view(len(batch.rows), batch.input_ids.shape[1], -1)

    @classmethod
    def metadata(cls, sizes: SignalSizes, rounded: str) -> dict[str, str]:
        """See ``Signal``."""
        return {"dtype": rounded}


def inner_signals(fields: Iterable[str]) -> tuple[type[InnerSignal], ...]:
    """Return the inner signals of these fields."""
    return tuple(cast(type[InnerSignal], SIGNALS.get(field)) for field in fields)


def inner_sizes(fields: Iterable[str], config: Config) -> tuple[tuple[str, int], ...]:
    """Return each inner signal's field and its numbers of a token in a teacher with a configuration."""
    return tuple((signal.field, signal.numbers(config)) for signal in inner_signals(fields))
