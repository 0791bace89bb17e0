"""The seconds of a stage on the device at hand: a few real steps are timed, and the others follow from their work.

The time of a step is a sum of parts that grow with its lessons, the parameters that the optimiser goes over,
the tokens (what does not shrink with the scale: norms, residuals, losses) and the FLOPs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from raydisc.forecast.dry_run import Forecast
from raydisc.forecast.stand_ins import kept_signal, sizes_of_outputs
from raydisc.models.build import build, compute_twice
from raydisc.models.cost import STEP_FORWARDS
from raydisc.models.structure import Structure
from raydisc.stages.plan import Outlook
from raydisc.stages.scoring import run_evaluation
from raydisc.stages.teacher_outputs import run_outputs
from raydisc.stages.training import Assigned, Learner, Pupil, Training
from raydisc.stages.work import Work
from raydisc.supernet.elastic import make_elastic
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import optimiser_settings
from raydisc.training.compact_embedding import CompactVocabulary
from raydisc.training.dropout import set_dropout
from raydisc.training.execution import Execution
from raydisc.training.optimiser import adamw, descend

_ROUNDS = 4
"""The timed repetitions of each block, after one that is not timed; the median counts."""

_QUANTILES = (0.1, 0.5, 0.9)
"""The quantiles of the length at which the data's batches are timed."""

_SCALES = 4
"""The most scales whose steps are timed."""


@dataclass(frozen=True)
class Pace:
    """The speed of a device.

    Attributes:
        device: Its name.
        train: Seconds for each lesson, parameter of each lesson, token and FLOP of training.
        run: Seconds for each batch, token, token of which outputs are kept, and FLOP where nothing is trained.
        samples: Blocks that were timed.
        error: Mean relative error of the fit on them.
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
    """A clock of this process's work: wall time on a GPU, otherwise CPU time divided by threads, without neighbours."""

    def __init__(self, device: torch.device, threads: int) -> None:
        """See the class."""
        self._device, self._threads = device, threads

    def __call__(self) -> float:
        """Return seconds since an arbitrary moment."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return time.perf_counter()
        return time.process_time() / self._threads


def parameters_at(outlook: Outlook, structure: Structure) -> int:
    """Return the number of a model's parameters."""
    return structure.size(outlook.config, outlook.teacher_parameters).parameters


def seconds_of(work: Work, outlook: Outlook, pace: Pace) -> float:
    """Return the device-seconds of a stage's work."""
    total = 0.0
    trained = parameters_at(outlook, work.trained) if work.trained else 0
    for passes in work.passes:
        batches, tokens, flops = sum(passes.shapes.values()), passes.tokens, passes.flops(outlook.cost)
        if passes.way in ("run", "keep"):
            kept = tokens if passes.way == "keep" else 0
            total += float(np.dot(pace.run, (batches, tokens, kept, flops)))
        else:
            total += float(np.dot(pace.train, (batches, batches * trained, tokens, flops)))
    return total


def probe(
    forecasts: Sequence[Sequence[Forecast]], outlook: Outlook, device: torch.device, execution: Execution, threads: int
) -> Pace:
    """Time steps of a student, of larger models and of a supernet, and forwards of the teacher and of the student.

    Args:
        forecasts: The forecasts of the experiment's trials, for each way in which its choices may fall.
        outlook: What the forecast knows.
        device: The device to time.
        execution: How stages are computed.
        threads: The threads of the CPU.
    """
    timer = _Timer(outlook, device, execution, Clock(device, threads))
    stages = list({stage.key: stage for ways in forecasts for way in ways for stage in way.needed}.values())
    trainings = [stage.plan.training for stage in stages if stage.plan.training and stage.plan.training.towards]
    dense = _spread({parameters_at(outlook, it.structure): it for it in trainings if not it.elastic})
    supernets = [training for training in trainings if training.elastic]
    train = [block for training in (*dense, *supernets[:1]) for block in timer.steps(training)]
    runs = [block for training in dense for block in timer.forwards(training)]
    fits = [_fit(train), _fit(runs)]
    errors = [error for _, found in fits for error in found]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} CPU thread(s)"
    return Pace(name, fits[0][0], fits[1][0], len(errors), float(np.mean(errors)))


def _spread(by_size: Mapping[int, Training]) -> list[Training]:
    """Return trainings of students and assistants of different sizes, the smallest and the largest among them."""
    sizes = sorted(by_size)
    places = np.unique(np.linspace(0, len(sizes) - 1, min(_SCALES, len(sizes))).round().astype(int))
    return [by_size[sizes[place]] for place in places]


def _fit(blocks: Sequence[_Block]) -> tuple[tuple[float, ...], list[float]]:
    """Return the non-negative cost of each feature and the relative error of each block."""
    seconds = np.array([block.seconds for block in blocks])
    features = np.array([block.features for block in blocks], dtype=float)
    size = features.max(axis=0) + (features.max(axis=0) == 0)
    relative = features / size / seconds[:, None]
    found, _ = nnls(relative, np.ones(len(blocks)))
    return tuple(float(value) for value in found / size), np.abs(relative @ found - 1).tolist()


class _Timer:
    """A builder of models with random weights that times their steps."""

    def __init__(self, outlook: Outlook, device: torch.device, execution: Execution, clock: Clock) -> None:
        self._outlook, self._device, self._execution, self._clock = outlook, device, execution, clock
        self._precision = execution.precision

    def steps(self, training: Training) -> list[_Block]:
        """Time steps of one lesson, on batches of several lengths; of a supernet also steps of two lessons."""
        assert training.towards is not None
        model = self._model(training)
        signal = kept_signal(training.towards, self._outlook.config)
        learn = training.learner(Pupil(model, signal, self._precision))
        step, blocks = self._stepping(model, training, learn), []
        for batch, lessons in product(self._batches(training), training.samples()):
            assigned = [(candidate, batch) for candidate in lessons]
            structures = [training.structure_of(candidate) for candidate in lessons]
            blocks.append(self._block(structures, batch, training.structure, partial(step, assigned)))
        return blocks

    def forwards(self, training: Training) -> list[_Block]:
        """Time forwards of a model as evaluations and as teacher outputs run it."""
        towards, structure, blocks = training.towards, training.structure, []
        assert towards is not None
        model, shape = self._dense(structure).eval(), sizes_of_outputs(towards, self._outlook.config)
        for batch in self._batches(training):
            tokens, flops = batch.tokens, self._outlook.cost.flops(structure, *batch.input_ids.shape)
            evaluation = self._timed(partial(run_evaluation, model, [batch], self._precision))
            run = partial(run_outputs, model, [batch], self._precision, towards.teacher_positions, shape)
            blocks += [_Block((1, tokens, 0, flops), evaluation), _Block((1, tokens, tokens, flops), self._timed(run))]
        return blocks

    def _block(self, lessons: list[Structure], batch: Batch, trained: Structure, step: Callable[[], None]) -> _Block:
        cost, count = self._outlook.cost, len(lessons)
        flops = STEP_FORWARDS * sum(cost.flops(structure, *batch.input_ids.shape) for structure in lessons)
        features = (count, count * parameters_at(self._outlook, trained), count * batch.tokens, flops)
        return _Block(features, self._timed(step))

    def _model(self, training: Training) -> nn.Module:
        model = self._dense(training.structure)
        if training.elastic:
            make_elastic(model, self._outlook.config)
        set_dropout(model, training.dropout)
        if self._execution.checkpointing:
            compute_twice(model)
        tokens = training.source.tokens()
        if tokens is not None:
            CompactVocabulary(model, tokens)
        return model.train()

    def _dense(self, structure: Structure) -> nn.Module:
        model = build(self._outlook.config, structure)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.02)
        return model.to(self._device)

    def _stepping(self, model: nn.Module, training: Training, learn: Learner) -> Callable[[list[Assigned]], None]:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = adamw(model, trained, optimiser_settings(training.config))

        def step(assigned: list[Assigned]) -> None:
            learn(assigned)
            descend(optimiser, trained, training.config.max_grad_norm)

        return step

    def _batches(self, training: Training) -> list[Batch]:
        """Return batches of the data from short to long; the teacher's outputs on any row are those on the first."""
        source = training.source
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
