"""Running a model once over rows, without training it: for predictions, a teacher's outputs, importance."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from raydisc.models.cost import ForwardCost
from raydisc.models.precision import Precision
from raydisc.models.structure import Structure
from raydisc.parallel.rank import ALONE, Rank
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.micro_batches import micro_batches_of


class FlopMeter:
    """A count of the FLOPs of forwards, padding included."""

    def __init__(self, cost: ForwardCost, structure: Structure) -> None:
        """Start at zero."""
        self._cost, self._structure = cost, structure
        self.flops = 0.0

    def __call__(self, batch: Batch) -> None:
        """Count a forward on a batch."""
        self.flops += self._cost.flops(self._structure, *batch.shape)


def _tell_nobody(_: Batch) -> None:
    """Ignore a batch of a pass that is not counted."""


@dataclass(frozen=True)
class Pass:
    """A pass of one worker over its share of rows.

    Attributes:
        batch_size: The rows that all workers compute together.
        on_batch: Called with each of the worker's batches before it is computed.
        precision: The precision to compute in.
        rank: The rank of the worker.
        micro_batches: The number of parts that its share of a batch is cut into, computed one after another.
    """

    batch_size: int
    on_batch: Callable[[Batch], None] = _tell_nobody
    precision: Precision = "float32"
    rank: Rank = ALONE
    micro_batches: int = 1

    def over(self, split: Split, batches: Iterable[np.ndarray], pad_id: int, device: torch.device) -> Iterator[Batch]:
        """Yield the worker's parts of batches, which are given by their row numbers; a part may be without rows."""
        for rows in batches:
            batch = split.batch(rows, pad_id).share(self.rank.index, self.rank.workers).to(device)
            self.on_batch(batch)  # Before the batch is computed, since what follows from it may end the pass.
            yield from micro_batches_of(batch, self.micro_batches)
