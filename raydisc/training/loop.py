"""The training loop of every stage: fine-tuning, once-for-all and distillation differ only in their step."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raydisc.errors import NonFiniteLoss, Stopped
from raydisc.models.task_heads import put_weights, weights_of
from raydisc.parallel.load_shards import own_copy
from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.shard import is_sharded
from raydisc.training.checkpoint import (
    TrainingState,
    fits,
    load,
    optimiser_tensors,
    progress_in,
    restore_optimiser,
    save,
)  # fmt: skip
from raydisc.training.compact_embedding import CompactVocabulary
from raydisc.training.optimiser import OptimiserSettings, adamw, decayed, descend, lr_at
from raydisc.training.progress import Evaluated, Evaluation, Progress, StepsDone

_SEED_STRIDE = 2**32
"""The distance between the seeds of workers; the seeds of stages are smaller."""

READ_EVERY = 10
"""Steps after which losses are read, since each reading makes the host wait for the device."""

Step = Callable[[int], tuple[torch.Tensor, float]]
"""Runs forward and backward of a step on this worker's share of its batch, which leaves gradients; returns the share's
part of the loss, detached and on the device, and the FLOPs that all workers executed."""

Evaluate = Callable[[int], tuple[Evaluation, float]]
"""Evaluates after a step; returns the evaluation, and the FLOPs that all workers executed for it."""

Stops = Callable[[], bool]
"""Whether a stage is asked to stop; called at every step, so that it must be cheap."""


def never() -> bool:
    """Return False: a stage is not asked to stop."""
    return False


@dataclass(frozen=True)
class LoopSettings:
    """The settings of the training loop of one stage.

    Attributes:
        stage: The name of the stage in messages.
        total_steps: The number of optimiser steps.
        seed: The seed of dropout.
        optimiser: The settings of the optimiser.
        evaluate_at: The steps after which the model is evaluated.
        patience: Stop after this number of evaluations without a better metric and keep the best weights; None never
            stops early.
        checkpoint_folder: The folder of checkpoints; None writes no checkpoint.
        checkpoint_every_s: Seconds between checkpoints; up to ten times as many where writing one takes long.
        tokens: The tokens of the training rows. Only their rows of the word embedding are trained; the others decay as
            if they were. None trains the whole embedding.
        stops: Whether this worker is asked to stop; all workers then write a checkpoint at once and stop.
        keep_best: Whether the best weights are kept without patience too, rather than those of the last step.
        ends_at: The step after which the training is broken off, so that another stage can go on with it; None trains
            to the end.
        begun: The state that another stage has left, from which the training goes on; its tensors are whole and are
            only read. None begins with the first step.
    """

    stage: str
    total_steps: int
    seed: int
    optimiser: OptimiserSettings
    evaluate_at: frozenset[int]
    patience: int | None
    checkpoint_folder: Path | None
    checkpoint_every_s: float
    tokens: np.ndarray | None = None
    stops: Stops = never
    keep_best: bool = False
    ends_at: int | None = None
    begun: TrainingState | None = None

    @property
    def last_step(self) -> int:
        """The step after which the loop ends."""
        return self.total_steps if self.ends_at is None else self.ends_at

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best evaluation are kept."""
        return self.keep_best or self.patience is not None


def train(
    model: nn.Module,
    settings: LoopSettings,
    step: Step,
    evaluate: Evaluate,
    progress: Progress,
    rank: Rank = ALONE,
) -> TrainingState:
    """Train a model in place, from the last checkpoint if there is one, else from where another stage has left it.

    Every random choice depends on the seed and the step, or on torch's random state, which the checkpoint holds. An
    interrupted run therefore ends with the same bits as an undisturbed one.

    Args:
        model: The model, whose trainable parameters are optimised; on return it holds all weights to keep. A run that
            continues from a checkpoint gets the weights with which it began.
        settings: The settings of the loop.
        step: Runs forward and backward of a step.
        evaluate: Evaluates the model after some steps.
        progress: Takes the events: every step and every evaluation.
        rank: The rank of this worker; all workers run the same loop.

    Returns:
        The state at the end. It has tensors only where the training is broken off: those of a checkpoint.

    Raises:
        NonFiniteLoss: The loss or a gradient is not finite. The message names the stage and the first such step, though
            it may be noticed some steps later; the last good checkpoint stays.
        Stopped: A worker was asked to stop; the checkpoint holds the last step done.
    """
    tokens = None if _trains_whole_table(model, settings, rank) else settings.tokens
    vocabulary = None if tokens is None else CompactVocabulary(model, tokens)
    state = _train(model, settings, step, _whole(evaluate, vocabulary, settings), progress, rank)
    kept_steps = state.step
    if settings.keeps_best and state.best is not None:
        put_weights(model, state.part("best."))
        kept_steps = state.evaluations[-1 - state.since_best].step
    if vocabulary is not None:
        vocabulary.restore(decayed(kept_steps, settings.total_steps, settings.optimiser))
    if settings.ends_at is None:
        state.tensors.clear()
    return state


def _trains_whole_table(model: nn.Module, settings: LoopSettings, rank: Rank) -> bool:
    """Whether the whole word embedding is trained: for sharded models, and where what it goes on from did so."""
    if is_sharded(model):
        return True
    folder = settings.checkpoint_folder
    before = (rank.from_leader(progress_in(folder)) if folder else None) or settings.begun
    return before is not None and before.whole_table


def _whole(evaluate: Evaluate, vocabulary: CompactVocabulary | None, settings: LoopSettings) -> Evaluate:
    """Return the evaluation with all rows of the word embedding, as other texts have other tokens."""
    if vocabulary is None:
        return evaluate

    def evaluated(step: int) -> tuple[Evaluation, float]:
        with vocabulary.whole(decayed(step, settings.total_steps, settings.optimiser)):
            return evaluate(step)

    return evaluated


def _train(
    model: nn.Module,
    settings: LoopSettings,
    step: Step,
    evaluate: Evaluate,
    progress: Progress,
    rank: Rank,
) -> TrainingState:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.numel()]
    optimiser = adamw(model, trained, settings.optimiser)
    state = _gone_on(model, optimiser, settings, rank) or _fresh(model, settings, rank)
    folder, saved, begun = settings.checkpoint_folder, time.monotonic(), _clocks()
    pause = settings.checkpoint_every_s
    unread: list[_Signs] = []
    if state.evaluations:  # a process before this one may not have come to act on the last of them
        progress(_last_evaluation(state, settings))
    model.train()
    for index in _remaining(state, settings):
        _set_lr(optimiser, lr_at(index, settings.total_steps, settings.optimiser))
        loss, flops = step(index)
        norm = descend(optimiser, trained, settings.optimiser.max_grad_norm, rank)
        unread.append(_Signs(index, loss, norm))
        state.step, state.flops = index + 1, state.flops + flops
        evaluates = state.step in settings.evaluate_at
        due = rank.leads and time.monotonic() - saved > pause
        stops, due = rank.any_of(settings.stops(), due)
        saves = folder is not None and (stops or due)
        read = None
        if evaluates or saves or state.step == settings.last_step or index % READ_EVERY == 0:
            read = _read(unread, settings, rank)
            unread.clear()
        progress(StepsDone(state.step, settings.last_step, read))
        if evaluates:
            _evaluate(model, state, settings, evaluate)
            progress(_last_evaluation(state, settings))
        if folder is not None and saves:
            writes = time.monotonic()
            _save(model, optimiser, state, folder, begun, rank)
            saved = time.monotonic()
            pause = checkpoint_pause(settings.checkpoint_every_s, saved - writes)
        if stops:
            raise Stopped(f"{settings.stage}: stopped at step {state.step} of {settings.last_step}")
    if settings.ends_at is not None:
        _hold(model, optimiser, state, rank)
    return state


def _last_evaluation(state: TrainingState, settings: LoopSettings) -> Evaluated:
    return Evaluated(state.evaluations[-1], len(state.evaluations), settings.last_step, state.flops)


def checkpoint_pause(usual_s: float, writing_s: float) -> float:
    """Return the seconds until the next checkpoint, so that writing takes a twentieth of the time, within a bound."""
    return min(max(usual_s, 19 * writing_s), 10 * usual_s)


@dataclass(frozen=True)
class _Signs:
    """The loss and the norm of the gradient after a step, two scalars on the device, to be checked later."""

    index: int
    loss: torch.Tensor
    norm: torch.Tensor


def _read(unread: Sequence[_Signs], settings: LoopSettings, rank: Rank) -> float:
    """Check all steps since the last reading at once, and return the loss of the last of them."""
    losses = rank.total(torch.stack([signs.loss for signs in unread]))
    values = torch.stack([losses, torch.stack([signs.norm for signs in unread])], dim=1).tolist()
    for signs, (loss, norm) in zip(unread, values, strict=True):
        _refuse_non_finite("loss", loss, signs.index, settings)
        _refuse_non_finite("gradient's norm", norm, signs.index, settings)
    return float(values[-1][0])


def _remaining(state: TrainingState, settings: LoopSettings) -> Iterator[int]:
    while state.step < settings.last_step:
        if settings.patience is not None and state.since_best >= settings.patience:
            return
        yield state.step


def _fresh(model: nn.Module, settings: LoopSettings, rank: Rank) -> TrainingState:
    torch.manual_seed(settings.seed + rank.index * _SEED_STRIDE)
    return TrainingState(whole_table=is_sharded(model))


def _gone_on(
    model: nn.Module, optimiser: torch.optim.Optimizer, settings: LoopSettings, rank: Rank
) -> TrainingState | None:
    """Go on from the checkpoint, or from what another stage has left; None where there is neither.

    Raises:
        ValueError: What the other stage has left does not fit the model.
    """
    folder = settings.checkpoint_folder
    like = _sharded_tensors(model, optimiser) if is_sharded(model) else {}
    state = load(folder, like, rank) if folder else None
    if state is None or not _is_of(state, model, optimiser, settings):
        if settings.begun is None:
            return None
        tensors = {name: own_copy(it, like.get(name)) for name, it in settings.begun.tensors.items()}
        state = replace(settings.begun, evaluations=[], tensors=tensors)
        if not _is_of(state, model, optimiser, settings):
            raise ValueError(f"{settings.stage}: the training state that it goes on from is not that of its model")
    put_weights(model, state.part("model."))
    restore_optimiser(optimiser, state.part("optimiser."))
    _set_random_state(model, state, settings, rank)
    state.tensors = {name: tensor for name, tensor in state.tensors.items() if name.startswith("best.")}
    return state


def _is_of(state: TrainingState, model: nn.Module, optimiser: torch.optim.Optimizer, settings: LoopSettings) -> bool:
    """Whether the training of a model can go on from a state."""
    if is_sharded(model) and not state.whole_table:
        return False
    return fits(state, weights_of(model), optimiser, settings.keeps_best)


def _sharded_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the tensors that a checkpoint of a sharded model may hold: weights, best weights, AdamW's moments."""
    weights = model.state_dict()
    like = {f"{part}.{name}": tensor for part in ("model", "best") for name, tensor in weights.items()}
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(trained):
        like |= {f"optimiser.{index}.{moment}": parameter.detach() for moment in ("exp_avg", "exp_avg_sq")}
    return like


def _random_state(model: nn.Module, rank: Rank) -> dict[str, torch.Tensor]:
    """Return the random states of all workers, by the device and the number of the worker."""
    device = next(model.parameters()).device
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {f"{kind}.{index}": state for kind, own in states.items() for index, state in enumerate(rank.all_of(own))}


def _set_random_state(model: nn.Module, state: TrainingState, settings: LoopSettings, rank: Rank) -> None:
    """Restore the random state of the worker; a worker that was not there when it was saved draws a new one."""
    states = state.part("random.")
    if f"cpu.{rank.index}" not in states:
        torch.manual_seed(settings.seed + rank.index * _SEED_STRIDE + state.step)
        return
    torch.set_rng_state(states[f"cpu.{rank.index}"])
    if f"cuda.{rank.index}" in states:
        torch.cuda.set_rng_state(states[f"cuda.{rank.index}"], next(model.parameters()).device)


def _clocks() -> tuple[float, float]:
    """Return wall clock and process time in seconds."""
    return time.perf_counter(), time.process_time()


def _save(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    folder: Path,
    begun: tuple[float, float],
    rank: Rank,
) -> None:
    _hold(model, optimiser, state, rank)
    wall, cpu = (now - then for now, then in zip(_clocks(), begun, strict=True))
    cpu = float(rank.total(torch.tensor(cpu, dtype=torch.float64)))
    before = replace(state, wall_before=state.wall_before + wall, cpu_before=state.cpu_before + cpu)
    save(folder, before, rank)


def _hold(model: nn.Module, optimiser: torch.optim.Optimizer, state: TrainingState, rank: Rank) -> None:
    """Put into the state what the next step depends on."""
    state.put("model.", weights_of(model))
    state.put("optimiser.", optimiser_tensors(optimiser))
    state.put("random.", _random_state(model, rank))


def _evaluate(model: nn.Module, state: TrainingState, settings: LoopSettings, evaluate: Evaluate) -> None:
    model.eval()
    found, flops = evaluate(state.step)
    state.flops += flops
    state.evaluations.append(found)
    if state.best is None or found.metric > state.best:
        state.best, state.since_best = found.metric, 0
        if settings.keeps_best:
            state.put("best.", {name: tensor.clone() for name, tensor in weights_of(model).items()})
    else:
        state.since_best += 1
    model.train()


def _refuse_non_finite(name: str, value: float, index: int, settings: LoopSettings) -> None:
    if not math.isfinite(value):
        before = progress_in(settings.checkpoint_folder) if settings.checkpoint_folder else None
        kept = f"the checkpoint of step {before.step} is kept" if before else "no checkpoint had been written yet"
        raise NonFiniteLoss(
            f"{settings.stage}: the {name} is {value} at step {index + 1} of {settings.last_step}; {kept}; "
            "a smaller learning rate or a longer warm-up usually helps"
        )


def _set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


def even_steps(total_steps: int, evaluations: int, last: bool) -> frozenset[int]:
    """Return the steps after which to evaluate, evenly spread.

    Args:
        total_steps: The number of steps.
        evaluations: The number of evaluations, counting the one at the end of the stage.
        last: Whether the last step is among them. Every stage evaluates the weights that it keeps anyway; the last step
            is included where something is decided by its evaluation.
    """
    steps = {round(index * total_steps / evaluations) for index in range(1, evaluations)} - {0, total_steps}
    return frozenset(steps | {total_steps} if last else steps)


def no_evaluation(step: int) -> tuple[Evaluation, float]:
    """Refuse an evaluation of a stage that is not evaluated while it trains."""
    raise AssertionError(f"no evaluation was asked for, yet one is due at step {step}")
