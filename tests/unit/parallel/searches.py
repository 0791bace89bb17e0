"""Whole searches by several workers, each of which drives the schedule; and importance by itself."""

from pathlib import Path

import numpy as np
import torch
from tiny_models import tiny_config, tiny_split, tiny_teacher
from tiny_runs import ONE_THREAD, changed, search_of, tiny_experiment

from raydisc.models.families import layers_of
from raydisc.models.widths import Widths
from raydisc.parallel.files import TensorFile
from raydisc.parallel.place import ALONE
from raydisc.schedules.minidisc import minidisc
from raydisc.settings import TeacherConfig
from raydisc.stages.compute import Worker
from raydisc.stages.context import Context, Weights
from raydisc.stages.models import frozen_model
from raydisc.stages.store import ArtifactStore
from raydisc.supernet.grid import order_units, reordered
from raydisc.supernet.importance import gradient_importance, magnitude_importance


def context_at(place, folder) -> Context:
    """Where a worker computes in float32."""
    store = ArtifactStore(Path(folder))
    return Context(store, torch.device("cpu"), "float32", lambda state: None, Path(folder) / "partial", 60.0, place)


def scored(place, folder, families):
    """Scores by both methods, and the sorted weights as they were written."""
    found = {}
    for family in families:
        config = tiny_config(family)
        layers, state = layers_of(config), tiny_teacher(config).state_dict()
        model = frozen_model(Weights(config, Widths.full(config), state, 1.0), context_at(place, folder))
        split = tiny_split([7, 5, 5, 3, 2, 9, 1, 4, 4], types=family == "bert")
        parts = ([5, 0, 1, 2, 7, 8, 3], [4, 6])  # of the second some workers have no row
        batches = [split.batch(np.array(rows), config.pad_token_id).share(place.rank, place.workers) for rows in parts]
        gradient = gradient_importance(model, layers, batches, False, place)
        magnitude = magnitude_importance(model, layers)
        order = order_units(gradient)
        path = Path(folder) / f"{family}.safetensors"
        TensorFile(reordered(model.state_dict() if place is ALONE else state, layers, order), place)(path)
        found[family] = [
            *(torch.cat([*scores.heads, *scores.neurons]).numpy() for scores in (gradient, magnitude)),
            [*order.heads, *order.neurons],
        ]
    return found


def searched(place, storage, experiment):
    """The assistant, the student's metric, and what each stage's weights are, of a MiniDisc search."""
    search = search_of(experiment)
    store = ArtifactStore(Path(storage))
    worker = Worker(store, torch.device("cpu"), "float32", place=place)
    artifacts = []
    schedule = minidisc(search, 0.2, 1, False)
    try:
        request = next(schedule)
        while True:
            promise = request.promise(ONE_THREAD)
            found = place.from_leader(store.find(promise.key))
            artifact = found or worker(request, promise, lambda state: None)
            artifacts.append(artifact)
            request = schedule.send(artifact)
    except StopIteration as end:
        return end.value, artifacts


def taken_in(place, storage, folder, finetune):
    """The teacher that a stage makes of a checkpoint: its metric, and its weights where they lie."""
    base = tiny_experiment()
    teacher = TeacherConfig(model=str(folder), finetune=finetune)
    experiment = changed(base, teacher=teacher)
    store = ArtifactStore(Path(storage))
    worker = Worker(store, torch.device("cpu"), "float32", place=place)

    def execute(request):
        promise = request.promise(ONE_THREAD)
        return place.from_leader(store.find(promise.key)) or worker(request, promise, lambda state: None)

    schedule = search_of(experiment).prepare()
    data = execute(next(schedule))
    made = execute(schedule.send(data))
    return made["evaluations"][-1]["metric"], made
