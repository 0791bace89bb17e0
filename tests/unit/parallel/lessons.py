"""A few sandwich steps of a tiny supernet, alone or as one of several workers."""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from tiny_models import KINDS, tiny_config
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from raydisc.losses.labels import task_loss
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import build, load_trainable
from raydisc.models.cost import ForwardCost
from raydisc.models.forward import forward
from raydisc.models.task_heads import TokenHead, head_of
from raydisc.models.widths import Widths
from raydisc.parallel.load_shards import load_shards
from raydisc.parallel.shard import shard, whole
from raydisc.stages.context import Context
from raydisc.stages.models import trainable_model
from raydisc.stages.once_for_all.lessons import Lesson, sandwich_backward
from raydisc.stages.once_for_all.model import Supernet
from raydisc.supernet.candidates import candidate
from raydisc.supernet.elastic import make_elastic
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import importance_with_empty_layers, sorted_state, tagging, tiny_split, tiny_teacher
from raydisc.training.loop import LoopSettings, no_evaluation, train
from raydisc.training.optimiser import OptimiserSettings

LENGTHS = (12, 12, 9, 9, 7, 6, 6, 4, 3, 2, 1)
"""Eleven rows: no number of workers divides them."""

SCALES = (0.9, 0.5, 0.2)
POSITIONS = (0, 2, 3)
LOSS = WeightedLoss.of(
    {"hidden_mse": 1.0, "hidden_cosine": 1.0, "soft_cross_entropy": 0.5, "label": 0.25, "logit_mse": 0.1},
    2.0,
    task_kind("classification"),
)


class Communications(TorchDispatchMode):
    """Counts what is communicated."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.counts[function._schema.name.removeprefix("c10d::")] += 1
        return function(*args, **(kwargs or {}))


def config_of(subject):
    """Of a family's classifiers, or, with "tags" behind its name, of its token classifiers."""
    family, _, tags = subject.partition(" ")
    return tagging(tiny_config(family)) if tags else tiny_config(family)


def supernet_at(rank, family, precision="float32"):
    """The supernet of a worker: whole, or its shard."""
    config = config_of(family)
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    full = Widths.full(config)
    if rank.mesh is None:
        model = load_trainable(config, full, state)
    else:
        with torch.device("meta"):
            model = build(config, full)
        shard(model, config, rank, precision)
        load_shards(model, state, torch.device("cpu"))
    make_elastic(model, config)
    model.eval()
    candidates = tuple(candidate(importance, scale) for scale in SCALES)
    return Supernet(model, config, candidates, ForwardCost.of(model, config), precision, rank)


def lessons_at(rank, config, supernet, rows):
    """A lesson on some rows for each candidate; the smallest has two rows only, fewer than there may be workers."""
    tags = isinstance(head_of(config), TokenHead)
    split = tiny_split(LENGTHS, config.num_labels, types=config.model_type == "bert", tags=tags)
    teacher = tiny_teacher(config, seed=1)
    lessons = []
    for each in supernet.candidates:
        own = rows[:2] if each is supernet.candidates[-1] else rows
        batch = split.batch(own, config.pad_token_id).share(rank.index, rank.workers)
        with torch.no_grad():
            lessons.append(Lesson(each, batch, forward(teacher, batch, POSITIONS)))
    return lessons


def gradients(rank, family, precision="float32"):
    """One step's loss, its gradients by name, and what was communicated."""
    supernet = supernet_at(rank, family, precision)
    lessons = lessons_at(rank, supernet.config, supernet, np.arange(len(LENGTHS)))
    with Communications() as told:
        loss = sandwich_backward(supernet, lessons, LOSS, POSITIONS)
        rank.add_gradients(supernet.model.parameters())
    found = {name: whole(parameter.grad).numpy() for name, parameter in supernet.model.named_parameters()}
    return float(rank.total(loss)), found, dict(told.counts)


def trained(rank, family, optimiser, folder=None, steps=3, every_s=1e9, until=None):
    """The losses of a few steps of the training loop, and the weights after them."""
    supernet = supernet_at(rank, family)
    config = supernet.config
    settings = LoopSettings(
        "once_for_all", steps, 0, OptimiserSettings(1e-2, 0.0, 0.1, 0.5), frozenset(), None, folder, every_s,
        tokens=np.union1d(tiny_split(LENGTHS).tokens(), [config.pad_token_id]),
    )  # fmt: skip
    losses = []

    def step(rows, index):
        lessons = lessons_at(rank, config, supernet, rows)
        loss = sandwich_backward(supernet, lessons, LOSS, POSITIONS)
        losses.append(float(rank.total(loss)))
        if index == until:
            raise KeyboardInterrupt
        return loss, 0.0

    def rows_at(index):
        return np.sort(np.random.default_rng(index).permutation(len(LENGTHS))[:9])

    if optimiser == "sgd":
        weights = [p for p in supernet.model.parameters()]
        rule = torch.optim.SGD(weights, lr=0.05, momentum=0.9)
        for index in range(steps):
            step(rows_at(index), index)
            rank.add_gradients(weights)
            nn.utils.clip_grad_norm_(weights, 0.5)
            rule.step()
            rule.zero_grad()
    else:
        try:
            train(
                supernet.model,
                settings,
                lambda index: step(rows_at(index), index),
                no_evaluation,
                lambda state: None,
                rank,
            )
        except KeyboardInterrupt:
            pass
    return losses, {name: whole(tensor).numpy() for name, tensor in supernet.model.state_dict().items()}


def narrow_trained(rank, family, folder):
    """Losses and weights of a student that has layers without heads or neurons; it goes on from a checkpoint."""
    config = tiny_config(family)
    importance = importance_with_empty_layers(config)
    widths = candidate(importance, SCALES[-1]).structure
    assert 0 in widths.heads
    assert 0 in widths.neurons
    state = widths.cut(sorted_state(tiny_teacher(config), config, importance), config)
    split, losses = tiny_split(LENGTHS, config.num_labels), []

    def step(index):
        rows = np.sort(np.random.default_rng(index).permutation(len(LENGTHS))[:9])
        batch = split.batch(rows, config.pad_token_id).share(rank.index, rank.workers)
        total, count = task_loss(forward(model, batch, ()).logits, batch)
        (total / count).backward()
        losses.append(float(rank.total(total.detach() / count)))
        return total.detach() / count, 0.0

    for steps in (2, 4):
        context = Context(None, torch.device("cpu"), None, folder, rank=rank)
        model = trainable_model(config, widths, state, context)
        settings = LoopSettings("distil", 4, 0, OptimiserSettings(1e-2, 0.0, 0.1, 0.5), frozenset(), None, folder, -1.0)
        ends = {"total_steps": steps} if steps == 2 else {}
        train(model, replace(settings, **ends), step, no_evaluation, lambda state: None, rank)
    return losses, {name: whole(tensor).numpy() for name, tensor in model.state_dict().items()}


def everything(rank, families, optimisers):
    """All of it for every family, so that workers are started once."""
    found = {}
    for family in families:
        found[family, "step"] = gradients(rank, family)
        for optimiser in optimisers if family in KINDS else ():
            found[family, optimiser] = trained(rank, family, optimiser)
    return found
