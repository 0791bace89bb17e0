"""What each kind of stage will do and leave, from its request alone: the stages' own plans, and no weights."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.forecast.work import Passes, Shape, Work, over_batches, over_split
from raydisc.models.build import build
from raydisc.models.cost import ForwardCost
from raydisc.models.task_heads import weights_of
from raydisc.models.widths import Widths
from raydisc.schedules.base import Choice
from raydisc.stages.artifact import Model
from raydisc.stages.base import Stage
from raydisc.stages.distil import Distil, evaluation_steps, planned_steps
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.files import json_blob, prediction_table, read_split, read_widths, tensor_blob
from raydisc.stages.finetune import FineTune, curriculum_of
from raydisc.stages.importance import Importance, importance_batches, named_scores, read_candidate
from raydisc.stages.once_for_all.model import read_candidates
from raydisc.stages.once_for_all.plan import Course, course_of
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.problem import Subject
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.stages.targets import are_kept
from raydisc.stages.teacher_outputs import TeacherOutputs, fits, kept_in, outputs_shape
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.importance import Importance as Scores
from raydisc.tasks.tokenised import Split
from raydisc.tradeoff import Measured, choose
from raydisc.training.batches import BatchSource

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """What a forecast knows.

    Attributes:
        subject: the task and the teacher's configuration.
        config: that configuration.
        cost: of the teacher's forward.
        store: a scratch store; it holds data, and of models their configurations and widths.
        storage: the storage folder of the run to be forecast; it is only asked how much room it has.
        scores: of the units; where nobody knows them yet, such that every layer keeps the same share.
        choice: that the trial is taken to make.
        shapes: of the batches of every data order that was looked at.
    """

    subject: Subject
    config: Config
    cost: ForwardCost
    store: ArtifactStore
    storage: Path
    scores: Scores
    choice: Choice = Choice()
    shapes: dict[tuple[int, int], list[Shape]] = field(default_factory=lambda: defaultdict(list))

    def choosing(self, choice: Choice) -> "World":
        """Return the same world where the trial makes another choice."""
        return replace(self, choice=choice)

    @property
    def assistants(self) -> tuple[float, ...]:
        """The scales that the trial is taken to choose, in order."""
        return self.choice.path

    def first_shapes(self, source: BatchSource, order: tuple[int, int], steps: int) -> Counter[Shape]:
        """The shapes of a data order's first batches; ``order`` is its batch size and its seed."""
        known = self.shapes[order]
        known.extend(source.shape(step) for step in range(len(known), steps))
        return Counter(known[:steps])


@dataclass(frozen=True)
class Foreseen:
    """What a stage will do and leave.

    Attributes:
        facts: that schedules read.
        work: what it computes.
        stored: bytes of its large files, those of ``blobs`` left out.
        blobs: files that later stages' plans read.
    """

    facts: Mapping[str, Any]
    work: Work = Work()
    stored: int = 0
    blobs: Mapping[str, Blob] = field(default_factory=dict)


def even_scores(config: Config) -> Scores:
    """Scores with which every candidate keeps the same share of each layer, to the unit."""

    def falling(count: int) -> torch.Tensor:
        return torch.linspace(1.0, 1.0 / count, count)

    layers = layers_of(config)
    return Scores(
        tuple(falling(units.heads.count) for units in layers), tuple(falling(units.neurons.count) for units in layers)
    )


def forward_cost(config: Config) -> ForwardCost:
    """The cost of the teacher's forward, from its shapes."""
    with torch.device("meta"):
        return ForwardCost.of(build(config, Widths.full(config)), config)


def weight_bytes(config: Config, widths: Widths) -> int:
    """Bytes of a model's weights where they are kept."""
    with torch.device("meta"):
        return sum(tensor.nbytes for tensor in weights_of(build(config, widths)).values())


def _prediction_bytes(split: Split, num_labels: int, models: int = 1) -> int:
    one = prediction_table({None: np.zeros((len(split), num_labels), np.float32)}, split.labels, "validation")
    return models * int(one.nbytes)


def _model_blobs(world: World, widths: Widths, scale: float) -> dict[str, Blob]:
    subnet = {"scale": scale, "heads": list(widths.heads), "neurons": list(widths.neurons)}
    return {"config.json": json_blob(world.subject.config), "subnet.json": json_blob(subnet)}


def foresee_finetune(request: FineTune, world: World) -> Foreseen:
    """Steps over the labels, where the teacher is to be trained, and its evaluation."""
    config, widths = world.config, Widths.full(world.config)
    validation = read_split(world.store, request.data, "validation")
    passes = [over_split(widths, validation)]
    steps = 0
    if request.finetune is not None:
        train = read_split(world.store, request.data, "train")
        source, steps = curriculum_of(request, request.finetune, train, _CPU)
        passes.append(Passes("train", widths, Counter(source.shape(step) for step in range(steps))))
    facts = {"parameters": world.subject.teacher_parameters, "steps": steps}
    stored = weight_bytes(config, widths) + _prediction_bytes(validation, request.data["num_labels"])
    work = Work(tuple(passes), steps, widths if steps else None)
    return Foreseen(facts, work, stored, _model_blobs(world, widths, 1.0))


def foresee_teacher_outputs(request: TeacherOutputs, world: World) -> Foreseen:
    """One pass over the training rows, unless the model is to be run in every step."""
    shape = outputs_shape(request.data, request.positions, world.subject.hidden_size, request.top_tokens)
    source = kept_in(request.config, shape)
    if source != "online" and not fits(request.config, shape, _free(world.storage)):
        source = "online"
    facts = {"bytes": shape.bytes, "positions": list(request.positions), "source": source}
    if source == "online":
        return Foreseen(facts)
    train = read_split(world.store, request.data, "train")
    return Foreseen(facts, Work((over_split(read_widths(world.store, request.teacher), train),)), shape.bytes)


def _free(storage: Path) -> int:
    """Bytes free where the storage is or would be."""
    there = next(folder for folder in (storage.absolute(), *storage.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def foresee_importance(request: Importance, world: World) -> Foreseen:
    """A forward and a backward for each row looked at; the sorted teacher is written."""
    widths = Widths.full(world.config)
    work = Work()
    if request.method == "gradient":
        train = read_split(world.store, request.data, "train")
        work = Work((over_batches("score", widths, train.lengths, importance_batches(request, train)),))
    facts = {"parameters": request.teacher["parameters"], "method": request.method, "allocation": request.allocation}
    blobs = _model_blobs(world, widths, 1.0) | {"scores.safetensors": tensor_blob(named_scores(world.scores))}
    return Foreseen(facts, work, weight_bytes(world.config, widths), blobs)


def foresee_once_for_all(request: OnceForAll, world: World) -> Foreseen:
    """The sandwich of every step until the choice, the assistant taken to be chosen after it, the evaluations."""
    candidates = read_candidates(request, world.store)
    course = course_of(request, world.store, candidates, world.cost)
    metrics = dict.fromkeys(request.scales, 0.0) | dict(world.choice.metrics)
    chosen = None
    if course.chooses_at and request.lam is not None:
        measured = [Measured(scale, metric) for scale, metric in metrics.items()]
        scale = choose(measured, request.lam, above=min(request.scales)).scale
        chosen = next(candidate for candidate in candidates if candidate.scale == scale)
    train = read_split(world.store, request.data, "train")
    judges = read_split(world.store, request.data, "validation", request.config.evaluation_rows)
    validation = read_split(world.store, request.data, "validation")
    source = BatchSource(train, request.config.batch_size, request.seed, request.data["pad_id"], _CPU)
    teacher = None if are_kept(request.outputs) else read_widths(world.store, Model(request.importance))
    passes = _lessons(course, chosen, source, teacher)
    passes += [over_split(it.widths, judges, len(course.evaluate_at)) for it in candidates if course.evaluate_at]
    finalists = candidates if chosen is None else (chosen,)
    passes += [over_split(it.widths, validation) for it in finalists]
    rows = [
        {
            "scale": it.scale,
            "metric": metrics[it.scale],
            "reference": 1.0,
            "heads": it.widths.heads,
            "neurons": it.widths.neurons,
        }
        for it in candidates
    ]
    facts = {
        "candidates": rows,
        "steps": course.steps,
        "chosen_at": course.chooses_at,
        "outputs_flops": request.outputs.flops if request.outputs else 0.0,
    }
    largest = candidates[0]
    stored = weight_bytes(world.config, largest.widths)
    stored += _prediction_bytes(validation if chosen is None else judges, request.data["num_labels"], len(candidates))
    work = Work(tuple(passes), course.steps, largest.widths, bool(course.evaluate_at))
    return Foreseen(facts, work, stored, _model_blobs(world, largest.widths, largest.scale))


def _lessons(course: Course, chosen: Candidate | None, source: BatchSource, teacher: Widths | None) -> list[Passes]:
    """What the candidates learn in all steps, and what a teacher that is run does for it."""
    learned: dict[Widths, Counter[Shape]] = defaultdict(Counter)
    taught: Counter[Shape] = Counter()
    for step in range(course.steps):
        lengths = source.lengths(step)
        now = chosen if course.chooses_at is not None and step >= course.chooses_at else None
        shares = course.shares(step, now, len(lengths))
        parts = [(share.candidate.widths, lengths[share.rows]) for share in shares]
        shapes = [(widths, (len(own), int(own.max()))) for widths, own in parts if len(own)]
        for widths, shape in shapes:
            learned[widths][shape] += 1
        together = all(share.whole for share in shares)  # then the teacher is run once for all of them
        taught.update([shape for _, shape in shapes][:1] if together else [shape for _, shape in shapes])
    passes = [Passes("train", widths, shapes) for widths, shapes in learned.items()]
    return passes + ([Passes("run", teacher, taught)] if teacher else [])


def foresee_distil(request: Distil, world: World) -> Foreseen:
    """The student's steps, a teacher that is run in them, and the evaluations; nothing is stopped early."""
    config, data = request.config, request.data
    widths = read_candidate(world.store, request.importance, request.scale).widths
    train, validation = (read_split(world.store, data, name) for name in ("train", "validation"))
    source = BatchSource(train, config.batch_size, request.seed, data["pad_id"], _CPU)
    steps = planned_steps(request, world.store, source, world.cost, widths)
    shapes = world.first_shapes(source, (config.batch_size, request.seed), steps)
    passes = [Passes("train", widths, shapes)]
    if not are_kept(request.outputs):
        passes.append(Passes("run", read_widths(world.store, request.teacher), shapes))
    evaluations = evaluation_steps(request, steps)
    passes.append(over_split(widths, validation, max(1, len(evaluations))))
    stored = weight_bytes(world.config, widths) + _prediction_bytes(validation, data["num_labels"])
    work = Work(tuple(passes), steps, widths, bool(evaluations))
    return Foreseen({"scale": request.scale, "steps": steps}, work, stored, _model_blobs(world, widths, request.scale))


def foresee_evaluate(request: Evaluate, world: World) -> Foreseen:
    """One pass over the test rows."""
    test = read_split(world.store, request.data, "test")
    work = Work((over_split(read_widths(world.store, Model(request.student)), test),))
    return Foreseen({}, work, _prediction_bytes(test, request.data["num_labels"]))


Foresee = Callable[[Any, World], Foreseen]

FORESEE: Mapping[type[Stage], Foresee] = {
    FineTune: foresee_finetune,
    TeacherOutputs: foresee_teacher_outputs,
    Importance: foresee_importance,
    OnceForAll: foresee_once_for_all,
    Distil: foresee_distil,
    Evaluate: foresee_evaluate,
}
"""How each kind of stage is foreseen; data are read and tokenised as a run does it."""
