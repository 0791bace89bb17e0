"""The work of a stage: which model passes over batches of which shapes, and how often."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from raydisc.models.cost import SCORE_FORWARDS, STEP_FORWARDS, ForwardCost
from raydisc.models.structure import Structure
from raydisc.tasks.batching import EVALUATION_BATCH, evaluation_batches
from raydisc.tasks.tokenised import Split

Shape = tuple[int, int]
"""The rows and the padded length of a batch."""

Way = Literal["train", "score", "run", "keep"]
"""Forward and backward; forward and a backward to the units' masks; forward; forward whose outputs are kept."""

FORWARDS: Mapping[Way, int] = {"train": STEP_FORWARDS, "score": SCORE_FORWARDS, "run": 1, "keep": 1}
"""The cost of each way, in forwards."""


@dataclass(frozen=True)
class Passes:
    """A model of some structure over batches of these shapes."""

    way: Way
    structure: Structure
    shapes: Counter[Shape]

    def flops(self, cost: ForwardCost) -> int:
        """Return the FLOPs that they execute."""
        forwards = sum(count * cost.flops(self.structure, *shape) for shape, count in self.shapes.items())
        return FORWARDS[self.way] * forwards

    @property
    def tokens(self) -> int:
        """The tokens of all batches, padding included."""
        return sum(count * rows * length for (rows, length), count in self.shapes.items())

    def heaviest(self, count: int) -> list[Shape]:
        """Return the shapes of the ``count`` batches with the most tokens."""
        ordered = sorted(self.shapes, key=lambda shape: (shape[0] * shape[1], shape[1]), reverse=True)
        return [shape for shape in ordered[:count] for _ in range(min(count, self.shapes[shape]))][:count]

    @property
    def largest(self) -> Shape:
        """The shape of the batch with the most tokens."""
        return self.heaviest(1)[0]


@dataclass(frozen=True)
class Work:
    """All that a stage computes.

    Attributes:
        passes: The passes over batches.
        trained: The structure of the model that the optimiser goes over; None where nothing is trained.
    """

    passes: tuple[Passes, ...] = field(default=())
    trained: Structure | None = None

    def flops(self, cost: ForwardCost) -> float:
        """Return the FLOPs that the stage executes."""
        return float(sum(passes.flops(cost) for passes in self.passes))

    @property
    def rows(self) -> int:
        """The rows of the largest batch."""
        return max(passes.largest[0] for passes in self.passes)


def over_batches(way: Way, structure: Structure, lengths: np.ndarray, batches: Iterable[np.ndarray]) -> Passes:
    """Return the passes of a model over batches of rows, given by their numbers, of these lengths."""
    return Passes(way, structure, Counter((len(rows), int(lengths[rows].max())) for rows in batches))


def over_split(structure: Structure, split: Split, times: int = 1, way: Way = "run") -> Passes:
    """Return the passes of a model over every row of a split, as evaluations and teacher outputs batch them."""
    once = over_batches(way, structure, split.lengths, evaluation_batches(split.lengths, EVALUATION_BATCH))
    return Passes(way, structure, Counter({shape: times * count for shape, count in once.shapes.items()}))
