"""The training loop of every stage: fine-tuning, once-for-all and distillation differ only in their step."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raydisc.distillation.checkpoint import (
    TrainingState,
    load,
    optimiser_tensors,
    restore_optimiser,
    save,
)  # fmt: skip
from raydisc.distillation.optimiser import OptimiserSettings, adamw, lr_at
from raydisc.errors import NonFiniteLoss
from raydisc.tasks.tokenised import Batch

Step = Callable[[Batch, int], tuple[float, float]]
"""Runs forward and backward on a batch at a step and leaves gradients; gives the loss and the FLOPs executed."""

Evaluate = Callable[[int], dict[str, Any]]
"""Evaluates at a step; gives ``metric`` (what early stopping looks at), ``flops`` and whatever else it found."""

Progress = Callable[[dict[str, Any]], None]
"""Takes the state of a running stage; called at every step, so it must be cheap."""


@dataclass(frozen=True)
class LoopSettings:
    """How a stage trains.

    Attributes:
        stage: the stage's name in messages.
        total_steps: optimiser steps.
        seed: of dropout.
        optimiser: its settings.
        evaluate_at: steps after which an evaluation follows.
        patience: stop after so many evaluations without a better metric and hand back the best weights; None
            never stops early and hands back the last ones.
        checkpoint_folder: where checkpoints go; None writes none.
        checkpoint_every_s: seconds between checkpoints.
    """

    stage: str
    total_steps: int
    seed: int
    optimiser: OptimiserSettings
    evaluate_at: frozenset[int]
    patience: int | None
    checkpoint_folder: Path | None
    checkpoint_every_s: float


def train(
    model: nn.Module,
    settings: LoopSettings,
    batch_at: Callable[[int], Batch],
    step: Step,
    evaluate: Evaluate,
    progress: Progress,
) -> TrainingState:
    """Train a model in place, from the last checkpoint if there is one.

    Every random choice is drawn from the seed and the step, or from torch's state, which the checkpoint holds:
    an interrupted run ends with the same bits as an undisturbed one.

    Args:
        model: its trainable parameters are optimised; on return it holds the weights to keep.
        settings: how.
        batch_at: the batch of a step.
        step: forward and backward on a batch.
        evaluate: evaluation after some steps.
        progress: told of every step.

    Raises:
        NonFiniteLoss: the loss or a gradient is; names the stage and the step; the last good checkpoint stays.
    """
    optimiser = adamw(model, settings.optimiser)
    state = _resumed(model, optimiser, settings) or _fresh(settings)
    saved, begun = time.monotonic(), _clocks()
    for index in _remaining(state, settings):
        model.train()
        _set_lr(optimiser, lr_at(index, settings.total_steps, settings.optimiser))
        loss, flops = step(batch_at(index), index)
        _refuse_non_finite("loss", loss, index, settings)
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.optimiser.max_grad_norm)
        _refuse_non_finite("gradient's norm", float(norm), index, settings)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        state.step, state.flops = index + 1, state.flops + flops
        progress({"step": state.step, "steps": settings.total_steps, "loss": loss})
        if state.step in settings.evaluate_at:
            _evaluate(model, state, settings, evaluate)
            progress({"step": state.step, "steps": settings.total_steps, **state.evaluations[-1]})
        if settings.checkpoint_folder and time.monotonic() - saved > settings.checkpoint_every_s:
            _save(model, optimiser, state, settings.checkpoint_folder, begun)
            saved = time.monotonic()
    if settings.patience is not None and state.best is not None:
        model.load_state_dict(state.part("best."))
    return state


def _remaining(state: TrainingState, settings: LoopSettings) -> Iterator[int]:
    while state.step < settings.total_steps:
        if settings.patience is not None and state.since_best >= settings.patience:
            return
        yield state.step


def _fresh(settings: LoopSettings) -> TrainingState:
    torch.manual_seed(settings.seed)
    return TrainingState()


def _resumed(model: nn.Module, optimiser: torch.optim.Optimizer, settings: LoopSettings) -> TrainingState | None:
    state = load(settings.checkpoint_folder) if settings.checkpoint_folder else None
    if state is None:
        return None
    model.load_state_dict(state.part("model."))
    restore_optimiser(optimiser, state.part("optimiser."))
    torch.set_rng_state(state.tensors["random"])
    return state


def _clocks() -> tuple[float, float]:
    """Wall clock and process time, seconds."""
    return time.perf_counter(), time.process_time()


def _save(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    folder: Path,
    begun: tuple[float, float],
) -> None:
    state.put("model.", model.state_dict())
    state.put("optimiser.", optimiser_tensors(optimiser))
    state.put("random", {"": torch.get_rng_state()})
    wall, cpu = (now - then for now, then in zip(_clocks(), begun, strict=True))
    before = replace(state, wall_before=state.wall_before + wall, cpu_before=state.cpu_before + cpu)
    save(folder, before)


def _evaluate(model: nn.Module, state: TrainingState, settings: LoopSettings, evaluate: Evaluate) -> None:
    model.eval()
    found = evaluate(state.step)
    state.flops += found.pop("flops")
    state.evaluations.append({"step": state.step, **found})
    if state.best is None or found["metric"] > state.best:
        state.best, state.since_best = found["metric"], 0
        if settings.patience is not None:
            state.put("best.", {name: tensor.clone() for name, tensor in model.state_dict().items()})
    else:
        state.since_best += 1


def _refuse_non_finite(name: str, value: float, index: int, settings: LoopSettings) -> None:
    if not math.isfinite(value):
        before = load(settings.checkpoint_folder) if settings.checkpoint_folder else None
        kept = f"the checkpoint of step {before.step} is kept" if before else "no checkpoint had been written yet"
        raise NonFiniteLoss(
            f"{settings.stage}: the {name} is {value} at step {index + 1} of {settings.total_steps}; {kept}; "
            "a smaller learning rate or more warm-up usually mends it"
        )


def _set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


def evaluation_steps(total_steps: int, steps_per_epoch: int, per_epoch: int, patience: int | None) -> frozenset[int]:
    """Steps after which to evaluate: ``per_epoch`` times an epoch, evenly.

    The last step is among them only where early stopping compares it; a stage evaluates what it hands back anyway.
    """
    every = max(1, math.ceil(steps_per_epoch / per_epoch))
    regular = range(every, total_steps, every)
    return frozenset(regular) if patience is None else frozenset([*regular, total_steps])


def no_evaluation(step: int) -> dict[str, Any]:
    """For a stage that is not evaluated while it trains."""
    raise AssertionError(f"no evaluation was asked for, yet one is due at step {step}")
