"""Whole schedules in this process: a few rows of the embedded task, a tiny BERT, a handful of steps."""

import hashlib
from functools import cache
from tempfile import TemporaryDirectory

import torch

from raydisc.config.experiment import (
    Experiment,
    OnceForAllConfig,
)
from raydisc.config.sections import SandwichConfig
from raydisc.schedules.foresight import knowing
from raydisc.schedules.search import Search
from raydisc.schedules.trials import preparation
from raydisc.stages.executor import Executor
from raydisc.stages.problem import inspect
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.testing import runs
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE, TRAINING
from raydisc.training.execution import Execution

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PLAIN = {
    "sandwich": SandwichConfig(draw="uniform", slices=False), "candidates": "all", "choose_at": 1.0,
    "evaluation_rows": None,
}  # fmt: skip
"""Once-for-all without what makes it cheap: every candidate is trained to the end."""


def tiny_experiment(**changes) -> Experiment:
    """200 training rows, a grid of four assistants, a student of a quarter, 7 steps a stage."""
    return runs.tiny_experiment(**{"once_for_all": OnceForAllConfig(**TRAINING, **PLAIN), **changes})


def changed(section, **values):
    """A section with other values."""
    return section.model_copy(update=values)


class Told:
    """An executor's listener: every stage that was asked for, and whether it had been there."""

    def __init__(self):
        self.stages = []

    def __call__(self, request, artifact, found):
        self.stages.append((request, artifact, found))

    @property
    def keys(self):
        """Keys in the order asked for."""
        return [artifact.key for _, artifact, _ in self.stages]

    @property
    def computed(self):
        """Kinds of the stages that were computed, in order."""
        return [request.kind for request, _, found in self.stages if not found]


def executor(
    storage,
    told=None,
    progress=lambda found: None,
    read_blob=None,
    checkpoint_every_s=60.0,
    arithmetic=ONE_THREAD,
    **how,
) -> Executor:
    """An executor for one CPU thread; ``how`` is of its ``Execution``."""
    store = ArtifactStore(storage, read_blob)
    execution = Execution(arithmetic.precision, checkpoint_every_s=checkpoint_every_s, **how)
    return Executor(store, Worker(store, torch.device("cpu"), execution), arithmetic, progress, told or Told())


def search_of(experiment, seed=0, student=STUDENT_SCALE) -> Search:
    """The search of an experiment for one student and one seed."""
    return Search(experiment, inspect(experiment), student, seed)


@cache
def _tokens() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="raydisc-tokens-")


def tokens_known(experiment, subject=None):
    """A function that finds the tokenised task of an experiment, which a run knows before it plans, and no other."""
    request = next(preparation(experiment, subject or inspect(experiment), experiment.teachers[0]))
    return knowing(executor(_tokens().name).execute(request))


def weights_of(store, artifact) -> str:
    """SHA-256 of an artifact's weights as they lie on disk."""
    return hashlib.sha256(store.path(artifact, "model.safetensors").read_bytes()).hexdigest()
