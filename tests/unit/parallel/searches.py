"""Whole searches by several workers, each of which drives the schedule; and importance by itself."""

from pathlib import Path

import numpy as np
import torch
from tiny_models import tiny_config
from tiny_runs import changed, search_of, tiny_experiment
from tiny_schedules import minidisc

from raydisc.config.sections import TeacherConfig
from raydisc.families.registry import layers_of
from raydisc.models.widths import Widths
from raydisc.parallel.rank import ALONE
from raydisc.parallel.tensor_file import TensorFile
from raydisc.stages.context import Context
from raydisc.stages.files import Weights
from raydisc.stages.models import frozen_model
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.supernet.candidates import order_units, reordered
from raydisc.supernet.importance import gradient_importance, magnitude_importance
from raydisc.testing.models import tiny_split, tiny_teacher
from raydisc.testing.runs import ONE_THREAD


def context_at(rank, folder) -> Context:
    """Where a worker computes in float32."""
    store = ArtifactStore(Path(folder))
    return Context(store, torch.device("cpu"), lambda state: None, Path(folder) / "partial", rank=rank)


def scored(rank, folder, families):
    """Scores by both methods, and the sorted weights as they were written."""
    found = {}
    for family in families:
        config = tiny_config(family)
        layers, state = layers_of(config), tiny_teacher(config).state_dict()
        model = frozen_model(Weights(config, Widths.full(config), state, 1.0), context_at(rank, folder))
        split = tiny_split([7, 5, 5, 3, 2, 9, 1, 4, 4], types=family == "bert")
        parts = ([5, 0, 1, 2, 7, 8, 3], [4, 6])  # of the second some workers have no row
        batches = [split.batch(np.array(rows), config.pad_token_id).share(rank.index, rank.workers) for rows in parts]
        gradient = gradient_importance(model, layers, batches, rank)
        magnitude = magnitude_importance(model, layers)
        order = order_units(gradient)
        path = Path(folder) / f"{family}.safetensors"
        TensorFile(reordered(model.state_dict() if rank is ALONE else state, layers, order), rank)(path)
        found[family] = [
            *(torch.cat([*scores.heads, *scores.neurons]).numpy() for scores in (gradient, magnitude)),
            [*order.heads, *order.neurons],
        ]
    return found


def searched(rank, storage, experiment):
    """The assistant, the student's metric, and what each stage's weights are, of a MiniDisc search."""
    search = search_of(experiment)
    store = ArtifactStore(Path(storage))
    worker = Worker(store, torch.device("cpu"), rank=rank)
    artifacts = []
    schedule = minidisc(search, 0.2, 1, False)
    try:
        request = next(schedule)
        while True:
            promise = request.promise(ONE_THREAD)
            found = rank.from_leader(store.find(promise.key))
            artifact = found or worker(request, promise, lambda state: None)
            artifacts.append(artifact)
            request = schedule.send(artifact)
    except StopIteration as end:
        return end.value, artifacts


def taken_in(rank, storage, folder, finetune):
    """The teacher that a stage makes of a checkpoint: its metric, and its weights where they lie."""
    base = tiny_experiment()
    teacher = TeacherConfig(model=str(folder), finetune=finetune)
    experiment = changed(base, teacher=teacher)
    store = ArtifactStore(Path(storage))
    worker = Worker(store, torch.device("cpu"), rank=rank)

    def execute(request):
        promise = request.promise(ONE_THREAD)
        return rank.from_leader(store.find(promise.key)) or worker(request, promise, lambda state: None)

    schedule = search_of(experiment).prepare()
    data = execute(next(schedule))
    made = execute(schedule.send(data))
    return made["evaluations"][-1]["metric"], made
