"""Seconds of a stage on the device at hand: a few real steps are timed, and the rest follows from what they compute.

A step's time is taken to be a sum of parts that grow with its lessons, the parameters that the optimiser goes over,
the tokens (what does not shrink with the scale: norms, residuals, losses) and the FLOPs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from raydisc.forecast.dry_run import Forecast, Planned
from raydisc.forecast.memory import run_evaluation, run_outputs
from raydisc.forecast.stages import World
from raydisc.forecast.teaching import Teaching, Training, objective_of, source_of
from raydisc.forecast.work import Work
from raydisc.models.build import build
from raydisc.models.cost import STEP_FORWARDS
from raydisc.models.precision import Precision
from raydisc.models.widths import Widths
from raydisc.stages.base import Stage
from raydisc.stages.distil import Distil
from raydisc.stages.once_for_all.model import read_candidates
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.targets import positions, tokens_named
from raydisc.stages.teacher_outputs import TeacherOutputs
from raydisc.supernet.elastic import make_elastic
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import optimiser_settings
from raydisc.training.compact_embedding import CompactVocabulary
from raydisc.training.dropout import set_dropout
from raydisc.training.optimiser import adamw

_ROUNDS = 4
"""Timed repetitions of each block, after one that is not timed; their median counts."""

_QUANTILES = (0.1, 0.5, 0.9)
"""Which of the data's batches are timed, by their length."""

_SCALES = 4
"""The most scales whose steps are timed."""


@dataclass(frozen=True)
class Pace:
    """How fast a device computes.

    Attributes:
        device: its name.
        train: seconds for each lesson, parameter of each lesson, token and FLOP of training.
        run: seconds for each batch, token, token of which outputs are kept, and FLOP where nothing is trained.
        samples: blocks that were timed.
        error: mean relative error of the fit on them.
    """

    device: str
    train: tuple[float, ...]
    run: tuple[float, ...]
    samples: int
    error: float


@dataclass(frozen=True)
class _Block:
    features: tuple[float, ...]
    seconds: float


class Clock:
    """Seconds of this process's work: its CPU time by threads, so that neighbours do not count; on a GPU wall time."""

    def __init__(self, device: torch.device, threads: int) -> None:
        """See the class."""
        self._device, self._threads = device, threads

    def __call__(self) -> float:
        """Seconds since some moment."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return time.perf_counter()
        return time.process_time() / self._threads


def parameters_at(world: World, widths: Widths) -> int:
    """Return the number of a model's parameters."""
    return widths.size(world.config, world.subject.teacher_parameters).parameters


def seconds_of(work: Work, request: Stage, world: World, pace: Pace) -> float:
    """Device-seconds of a stage's work."""
    total = 0.0
    trained = parameters_at(world, work.trained) if work.trained else 0
    for passes in work.passes:
        batches, tokens, flops = sum(passes.shapes.values()), passes.tokens, passes.flops(world.cost)
        if passes.way == "run":
            kept = tokens if isinstance(request, TeacherOutputs) else 0
            total += float(np.dot(pace.run, (batches, tokens, kept, flops)))
        else:
            total += float(np.dot(pace.train, (batches, batches * trained, tokens, flops)))
    return total


def probe(
    forecasts: Sequence[Sequence[Forecast]], world: World, device: torch.device, precision: Precision, threads: int
) -> Pace:
    """Time steps of a student, of larger models and of a supernet, and forwards of the teacher and of the student.

    Args:
        forecasts: of the experiment's trials, for each way in which its choices may fall.
        world: what the forecast knows.
        device: to time.
        precision: to compute in.
        threads: of the CPU.
    """
    timer = _Timer(world, device, precision, Clock(device, threads))
    stages = list({stage.key: stage for ways in forecasts for way in ways for stage in way.needed}.values())
    distils = _spread(stages)
    train = [block for request, widths in distils for block in timer.dense_steps(request, widths)]
    supernet = next((it for it in stages if isinstance(it.request, OnceForAll)), None)
    if supernet is not None and isinstance(supernet.request, OnceForAll) and supernet.work.trained is not None:
        train += timer.supernet_steps(supernet.request, supernet.work.trained)
    runs = [block for request, widths in distils for block in timer.forwards(request, widths)]
    fits = [_fit(train), _fit(runs)]
    errors = [error for _, found in fits for error in found]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} CPU thread(s)"
    return Pace(name, fits[0][0], fits[1][0], len(errors), float(np.mean(errors)))


def _spread(stages: Sequence[Planned]) -> list[tuple[Distil, Widths]]:
    """Students and assistants of different scales, the smallest and the largest among them, with their widths."""
    by_scale = {
        stage.request.scale: (stage.request, stage.work.trained)
        for stage in stages
        if isinstance(stage.request, Distil) and stage.work.trained is not None
    }
    scales = sorted(by_scale)
    places = np.unique(np.linspace(0, len(scales) - 1, min(_SCALES, len(scales))).round().astype(int))
    return [by_scale[scales[place]] for place in places]


def _fit(blocks: Sequence[_Block]) -> tuple[tuple[float, ...], list[float]]:
    """What each feature costs, none less than nothing, and the relative error of each block."""
    seconds = np.array([block.seconds for block in blocks])
    features = np.array([block.features for block in blocks], dtype=float)
    size = features.max(axis=0) + (features.max(axis=0) == 0)
    relative = features / size / seconds[:, None]
    found, _ = nnls(relative, np.ones(len(blocks)))
    return tuple(float(value) for value in found / size), np.abs(relative @ found - 1).tolist()


class _Timer:
    """Builds models of random weights and times their steps."""

    def __init__(self, world: World, device: torch.device, precision: Precision, clock: Clock) -> None:
        self._world, self._device, self._precision, self._clock = world, device, precision, clock

    def dense_steps(self, request: Distil, widths: Widths) -> list[_Block]:
        """Steps of a student, on batches of several lengths."""
        teaching = Teaching.of(self._world, request, self._precision, None)
        model = self._model(widths, elastic=False)
        step = self._stepping(model, teaching)
        return [
            self._lessons([widths], batch, widths, partial(step, partial(teaching.learn, batch=batch)))
            for batch in self._batches(request)
        ]

    def supernet_steps(self, request: OnceForAll, widths: Widths) -> list[_Block]:
        """Steps of one candidate of a supernet, and of two."""
        teaching = Teaching.of(self._world, request, self._precision, None)
        model = self._model(widths, elastic=True)
        step, blocks = self._stepping(model, teaching), []
        for batch, count in product(self._batches(request), (1, 2)):
            candidates = read_candidates(request, self._world.store)[-count:]
            learn = partial(teaching.learn_together, taught=[(it, batch) for it in candidates])
            blocks.append(self._lessons([it.widths for it in candidates], batch, widths, partial(step, learn)))
        return blocks

    def forwards(self, request: Distil, widths: Widths) -> list[_Block]:
        """Forwards of a model as evaluations and as teacher outputs run it."""
        objective = objective_of(request)
        matched = positions(objective, len(self._world.cost.layers))[1]
        named = tokens_named(request.data, objective.top_tokens)
        model = self._model(widths, elastic=False).eval()
        blocks = []
        for batch in self._batches(request):
            tokens, flops = batch.tokens, self._world.cost.flops(widths, *batch.input_ids.shape)
            evaluation = self._timed(partial(run_evaluation, model, [batch], self._precision))
            outputs = self._timed(partial(run_outputs, model, [batch], matched, named, self._precision))
            blocks += [_Block((1, tokens, 0, flops), evaluation), _Block((1, tokens, tokens, flops), outputs)]
        return blocks

    def _lessons(self, taught: list[Widths], batch: Batch, trained: Widths, step: Callable[[], None]) -> _Block:
        cost, count = self._world.cost, len(taught)
        flops = STEP_FORWARDS * sum(cost.flops(widths, *batch.input_ids.shape) for widths in taught)
        features = (count, count * parameters_at(self._world, trained), count * batch.tokens, flops)
        return _Block(features, self._timed(step))

    def _model(self, widths: Widths, elastic: bool) -> nn.Module:
        model = build(self._world.config, widths)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.02)
        if elastic:
            make_elastic(model, self._world.config)
        return model.to(self._device)

    def _stepping(self, model: nn.Module, teaching: Teaching) -> Callable[[Callable[[nn.Module], None]], None]:
        set_dropout(model, teaching.dropout)
        tokens = source_of(self._world, teaching.request).tokens()
        if tokens is not None:
            CompactVocabulary(model, tokens)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = adamw(trained, optimiser_settings(teaching.config))
        model.train()

        def step(learn: Callable[[nn.Module], None]) -> None:
            learn(model)
            nn.utils.clip_grad_norm_(trained, teaching.config.max_grad_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        return step

    def _batches(self, request: Training) -> list[Batch]:
        """Batches of the data from short to long; the teacher's outputs on any row are those on the first."""
        source = source_of(self._world, request)
        steps = sorted(range(source.steps_per_epoch), key=lambda step: source.shape(step)[1])
        chosen = [steps[round(quantile * (len(steps) - 1))] for quantile in _QUANTILES]
        batches = [source.batch(step).to(self._device) for step in chosen]
        return [replace(batch, rows=np.zeros_like(batch.rows)) for batch in batches]

    def _timed(self, work: Callable[[], None]) -> float:
        work()
        seconds = []
        for _ in range(_ROUNDS):
            begun = self._clock()
            work()
            seconds.append(self._clock() - begun)
        return float(np.median(seconds))
