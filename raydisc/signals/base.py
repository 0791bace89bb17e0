"""The base class of signals: the kinds of a teacher's outputs that losses compare."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch

from raydisc.models.forward import Outputs
from raydisc.tasks.tokenised import Batch

ROUNDED_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""The types of rounded signals by their names in experiment files; two bytes each."""


@dataclass(frozen=True)
class SignalSizes:
    """The sizes of a model's signals on a split.

    Attributes:
        rows: Rows of the split, N.
        tokens: Real tokens of all rows, T.
        positions: Matched positions, K.
        hidden_size: Width of a hidden state, D.
        num_logits: Logits of a label: C, or k + 1 in a language task.
        num_tokens: Tokens that a label names: k in a language task, else 0.
        num_labels: Labels of all rows, A; None where each row has one.
        inner: Pairs of the field of an inner signal and its numbers of a token, W.
    """

    rows: int
    tokens: int
    positions: int
    hidden_size: int
    num_logits: int
    num_tokens: int = 0
    num_labels: int | None = None
    inner: tuple[tuple[str, int], ...] = ()

    @property
    def labels(self) -> int:
        """Labels of all rows, A."""
        return self.rows if self.num_labels is None else self.num_labels


class Signal(ABC):
    """One kind of a model's outputs: how it is taken from a forward, kept in a file and read back.

    A file holds entries of one shape, row after row: an entry for each label or for each real token. A signal is a
    class without state that is never instantiated; losses name it in ``needs``. To add one, derive from this class,
    and register it with ``raydisc.signals.registry.SIGNALS``; one that is made inside a model derives from
    ``raydisc.signals.inner.InnerSignal``.

    Shape letters: E entries, of a batch or of all rows.

    Attributes:
        field: The field of ``Outputs`` that holds the signal.
        file: The file of the cache that keeps it, which is named after the field.
        of_tokens: Whether there is an entry for each real token, rather than for each label.
        dtype: The type in which numbers are kept; None where they are rounded to the type that
            ``teacher_outputs.dtype`` names.
        inner: Whether ``field`` is a key of ``Outputs.inner`` rather than a field of ``Outputs``.
    """

    field: ClassVar[str]
    file: ClassVar[str]
    of_tokens: ClassVar[bool]
    dtype: ClassVar[torch.dtype | None]
    inner: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Name the file after the field."""
        super().__init_subclass__()
        if "field" in vars(cls):
            cls.file = f"{cls.field}.arrow"

    @classmethod
    @abstractmethod
    def entry_shape(cls, sizes: SignalSizes) -> tuple[int, ...]:
        """Return the shape of an entry; without numbers where a model's outputs do not have this signal."""

    @classmethod
    def width(cls, sizes: SignalSizes) -> int:
        """Return the number of numbers in an entry."""
        return prod(cls.entry_shape(sizes))

    @classmethod
    def has_file(cls, sizes: SignalSizes) -> bool:
        """Whether there is a file for outputs of these sizes."""
        return cls.width(sizes) > 0

    @classmethod
    def kept_type(cls, rounded: str) -> torch.dtype:
        """Return the type of the numbers in the file, given the name of that of rounded signals."""
        return cls.dtype or ROUNDED_TYPES[rounded]

    @classmethod
    @abstractmethod
    def taken(cls, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Return the entries of a batch, row after row, on the device of the outputs ``[E, ...]``."""

    @classmethod
    def restored(cls, entries: torch.Tensor, batch: Batch) -> Any:
        """Return the value of the field of ``Outputs``; the entries themselves unless a subclass says otherwise.

        Args:
            entries: The entries of the batch's labels, or of all its B * S places, where padding has the entry of its
                row's last token ``[E, ...]``.
            batch: The batch.
        """
        return entries

    @classmethod
    def metadata(cls, sizes: SignalSizes, rounded: str) -> dict[str, str]:
        """Return what a reader of the file has to know besides its numbers; ``rounded`` as in ``kept_type``."""
        return {}

    @classmethod
    def read_shape(cls, metadata: Mapping[str, str]) -> tuple[int, ...]:
        """Return the shape of an entry by the metadata of the file; -1 stands for all numbers of an entry."""
        return (-1,)
