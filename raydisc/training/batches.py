"""Which batch a step trains on, and what a section's settings mean in steps."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from raydisc.config.sections import FineTuneConfig, TrainingConfig
from raydisc.models.cost import ForwardCost
from raydisc.models.widths import Widths
from raydisc.parallel.rank import ALONE, Rank
from raydisc.tasks.batching import EVALUATION_BATCH, evaluation_batches, training_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.optimiser import OptimiserSettings


class BatchSource:
    """The batch of every step, by seed alone, so that a stage goes on after a crash where it was.

    Args:
        split: tokenised training rows.
        batch_size: rows of a batch.
        seed: of the order.
        pad_id: the tokenizer's padding token.
        device: where batches are put.
        rows_at: the rows that a step may draw from, None for all; for a curriculum.
        rank: of the worker that is given its share of each batch.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        pad_id: int,
        device: torch.device,
        rows_at: Callable[[int], np.ndarray | None] = lambda step: None,
        rank: Rank = ALONE,
    ) -> None:
        """See the class."""
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._pad_id = pad_id
        self._device, self._rows_at, self._rank = device, rows_at, rank
        self._epoch: tuple[int, int] | None = None
        self._batches: list[np.ndarray] = []
        self.steps_per_epoch = math.ceil(len(split) / batch_size)

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of a step's batch, of all workers; a curriculum's steps go round its smaller set more often."""
        allowed = self._rows_at(step)
        per_epoch = self.steps_per_epoch if allowed is None else math.ceil(len(allowed) / self.batch_size)
        epoch, position = divmod(step, per_epoch)
        if self._epoch != (epoch, per_epoch):
            self._batches = training_batches(self.split.lengths, self.batch_size, self.seed, epoch, allowed)
            self._epoch = (epoch, per_epoch)
        return self._batches[position]

    def shape(self, step: int) -> tuple[int, int]:
        """Return the rows and the padded length of a step's batch, without making it."""
        return self.shape_of(self.rows(step))

    def shape_of(self, rows: np.ndarray) -> tuple[int, int]:
        """Return the rows and the padded length of a batch of some rows, without making it."""
        return len(rows), int(self.split.lengths[rows].max())

    def tokens(self) -> np.ndarray | None:
        """The tokens that batches hold, padding included; int64. None of a language task, which asks for any."""
        if self.split.kind.over_vocabulary:
            return None
        return np.union1d(self.split.tokens(), [self._pad_id])

    def batch(self, step: int) -> Batch:
        """The worker's share of a step's batch."""
        return self.batch_of(self.rows(step))

    def batch_of(self, rows: np.ndarray) -> Batch:
        """The worker's share of some rows, as a batch."""
        return self.split.batch(rows, self._pad_id).share(self._rank.index, self._rank.workers).to(self._device)


def steps_of(config: TrainingConfig, steps_per_epoch: int) -> int:
    """Optimiser steps of a section's epochs."""
    return max(1, round(config.epochs * steps_per_epoch))


def pass_flops(cost: ForwardCost, widths: Widths, split: Split) -> float:
    """FLOPs of one forward over every row of a split, as evaluations and teacher outputs batch them."""
    lengths = split.lengths
    batches = evaluation_batches(lengths, EVALUATION_BATCH)
    return float(sum(cost.flops(widths, len(rows), int(lengths[rows].max())) for rows in batches))


def optimiser_settings(config: TrainingConfig) -> OptimiserSettings:
    """Return the optimiser of a section of an experiment."""
    settings = OptimiserSettings(config.lr, config.warmup, config.weight_decay, config.max_grad_norm)
    return replace(settings, beta2=config.beta2) if isinstance(config, FineTuneConfig) else settings
