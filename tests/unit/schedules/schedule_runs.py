"""Real schedules on a tiny task, in this process, for the tests of what they end with and what they cost."""

from types import SimpleNamespace

import pytest
from tiny_runs import Told, changed, executor, search_of, tiny_experiment
from tiny_schedules import minidisc

from raydisc.stages.distil import Distil
from raydisc.stages.files import read_weights

BASE = tiny_experiment()
GRID = (0.9, 0.7, 0.5, 0.4)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """One storage for the whole module: what one test trained another finds."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def search():
    return search_of(BASE)


def ran(schedule, storage):
    """A schedule's outcome with what it asked for."""
    told = Told()
    run = executor(storage, told)
    outcome = run.run(schedule)
    distils = [request for request, _, _ in told.stages if isinstance(request, Distil)]
    return SimpleNamespace(outcome=outcome, told=told, distils=distils, store=run.store)


@pytest.fixture(scope="module")
def mini(search, storage):
    return ran(minidisc(search, 0.2, 1, False), storage)


def trained(outcome):
    """What a schedule trained, in order."""
    return tuple(artifact for artifact in outcome.own if artifact.kind != "teacher_outputs")


def outputs_of(run, model):
    """The artifact of a model's outputs, asked for once."""
    asked = {
        artifact.key: artifact
        for request, artifact, _ in run.told.stages
        if request.kind == "teacher_outputs" and request.teacher == model
    }
    [found] = asked.values()
    return found


def with_distillation(search, **values):
    experiment = search.experiment.model_copy(update={"distillation": changed(BASE.distillation, **values)})
    return type(search)(experiment, search.subject, search.student_scale, search.seed)


def distances(store, one, other):
    """The largest distance of each weight of two models."""
    a, b = (read_weights(store, model).state for model in (one, other))
    return {name: float((a[name] - b[name]).abs().max()) if a[name].numel() else 0.0 for name in a}


def assistant_start(run, request):
    """The student before its training: as an artifact of one with steps too small to move a weight."""
    still = Distil(**{**request.__dict__, "config": changed(request.config, lr=1e-12, epochs=0.1)})
    return executor(run.store.root.parent).execute(still)
