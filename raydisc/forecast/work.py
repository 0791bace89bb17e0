"""The work of a stage: which model passes over batches of which shapes, and how often."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.widths import Widths
from raydisc.stages.importance import IMPORTANCE_FORWARDS
from raydisc.tasks.batching import EVALUATION_BATCH, evaluation_batches
from raydisc.tasks.tokenised import Split

Shape = tuple[int, int]
"""Rows and padded length of a batch."""

Way = Literal["train", "score", "run"]
"""Forward and backward; forward and a backward to the units' masks; forward."""

FORWARDS: Mapping[Way, int] = {"train": STEP_FORWARDS, "score": IMPORTANCE_FORWARDS, "run": 1}
"""What each way costs, in forwards."""


@dataclass(frozen=True)
class Passes:
    """One model, at some widths, over batches of these shapes."""

    way: Way
    widths: Widths
    shapes: Counter[Shape]

    def flops(self, cost: ForwardCost) -> int:
        """What they execute."""
        forwards = sum(count * cost.flops(self.widths, *shape) for shape, count in self.shapes.items())
        return FORWARDS[self.way] * forwards

    @property
    def tokens(self) -> int:
        """Tokens of all batches, padding included."""
        return sum(count * rows * length for (rows, length), count in self.shapes.items())

    def heaviest(self, count: int) -> list[Shape]:
        """The batches with the most tokens."""
        ordered = sorted(self.shapes, key=lambda shape: (shape[0] * shape[1], shape[1]), reverse=True)
        return [shape for shape in ordered[:count] for _ in range(min(count, self.shapes[shape]))][:count]

    @property
    def largest(self) -> Shape:
        """The batch with the most tokens."""
        return self.heaviest(1)[0]


@dataclass(frozen=True)
class Work:
    """All that a stage computes.

    Attributes:
        passes: over batches.
        steps: of the optimiser.
        trained: widths of the model that the optimiser goes over; None where nothing is trained.
        evaluates: whether there is an evaluation before the steps are over, beside what the optimiser keeps.
    """

    passes: tuple[Passes, ...] = field(default=())
    steps: int = 0
    trained: Widths | None = None
    evaluates: bool = False

    def flops(self, cost: ForwardCost) -> float:
        """What the stage executes."""
        return float(sum(passes.flops(cost) for passes in self.passes))


def over_batches(way: Way, widths: Widths, lengths: np.ndarray, batches: Iterable[np.ndarray]) -> Passes:
    """A model over batches of rows, given as their numbers, of these lengths."""
    return Passes(way, widths, Counter((len(rows), int(lengths[rows].max())) for rows in batches))


def over_split(widths: Widths, split: Split, times: int = 1) -> Passes:
    """A model over every row of a split, as evaluations and teacher outputs batch them."""
    once = over_batches("run", widths, split.lengths, evaluation_batches(split.lengths, EVALUATION_BATCH))
    return Passes("run", widths, Counter({shape: times * count for shape, count in once.shapes.items()}))
