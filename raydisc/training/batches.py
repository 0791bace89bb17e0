"""The batches of a training stage, and the number of steps that its settings stand for."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from raydisc.config.sections import FineTuneConfig, TrainingConfig
from raydisc.models.cost import ForwardCost
from raydisc.models.structure import Structure
from raydisc.parallel.rank import ALONE, Rank
from raydisc.tasks.batching import EVALUATION_BATCH, evaluation_batches, training_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.optimiser import OptimiserSettings


class BatchSource:
    """The batches of all steps; they depend on the seed alone, so that a stage continues after a crash where it was.

    Args:
        split: The tokenised training rows.
        batch_size: The rows of a batch.
        seed: The seed of the order.
        pad_id: The tokenizer's padding token.
        device: The device on which batches are put.
        rows_at: The rows that a step may draw from, for a curriculum; None stands for all rows.
        rank: The rank of the worker, which gets its share of each batch.
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
        """Return the row numbers of a step's batch for all workers; a curriculum repeats its smaller set more often."""
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
        """Return the tokens in all batches with padding, int64; None in a language task, which may predict any."""
        if self.split.kind.over_vocabulary:
            return None
        return np.union1d(self.split.tokens(), [self._pad_id])

    def batch(self, step: int) -> Batch:
        """Return the worker's share of a step's batch."""
        return self.batch_of(self.rows(step))

    def batch_of(self, rows: np.ndarray) -> Batch:
        """Return the worker's share of some rows, as a batch."""
        return self.split.batch(rows, self._pad_id).share(self._rank.index, self._rank.workers).to(self._device)


def steps_of(config: TrainingConfig, steps_per_epoch: int) -> int:
    """Return the number of optimiser steps in the epochs of a section."""
    return max(1, round(config.epochs * steps_per_epoch))


def pass_flops(cost: ForwardCost, structure: Structure, split: Split) -> float:
    """Return the FLOPs of one forward over every row of a split, in the batches of evaluations and teacher outputs."""
    lengths = split.lengths
    batches = evaluation_batches(lengths, EVALUATION_BATCH)
    return float(sum(cost.flops(structure, len(rows), int(lengths[rows].max())) for rows in batches))


def optimiser_settings(config: TrainingConfig) -> OptimiserSettings:
    """Return the optimiser of a section of an experiment."""
    settings = OptimiserSettings(config.lr, config.warmup, config.weight_decay, config.max_grad_norm)
    return replace(settings, beta2=config.beta2) if isinstance(config, FineTuneConfig) else settings
