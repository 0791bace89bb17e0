"""What tests of the training loop have in common: a model small enough to check every step, and how to kill it."""

import numpy as np
import torch
from torch import nn

from raydisc.tasks.batching import training_batches
from raydisc.testing.models import tiny_split
from raydisc.training.loop import LoopSettings
from raydisc.training.optimiser import OptimiserSettings
from raydisc.training.progress import step_of

OPTIMISER = OptimiserSettings(lr=1e-2, warmup=0.25, weight_decay=0.1, max_grad_norm=1.0)
SETTINGS = LoopSettings(
    stage="distil to 0.3", total_steps=12, seed=5, optimiser=OPTIMISER, evaluate_at=frozenset(), patience=None,
    checkpoint_folder=None, checkpoint_every_s=0.0,
)  # fmt: skip
SPLIT = tiny_split([4, 7, 3, 9, 5, 6, 2, 8, 4, 4, 7, 3] * 2)
TOKENS = np.union1d(SPLIT.tokens(), [0])


class Killed(BaseException):
    """What a killed process looks like from inside."""


def killed_at(step):
    def progress(event):
        if step_of(event) == step:
            raise Killed

    return progress


def quiet(event):
    pass


def batch_at(step):
    epoch, position = divmod(step, 4)
    return SPLIT.batch(training_batches(SPLIT.lengths, 6, 0, epoch)[position], 0)


def fetching(batches, step):
    """A step that fetches its own batch."""
    return lambda index: step(batches(index), index)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def pull(model):
    """A step towards zero outputs."""

    def step(batch, index):
        loss = model(torch.full((2, 3), 1.0 + index)).square().mean()
        loss.backward()
        return loss.detach(), 10.0

    return step
