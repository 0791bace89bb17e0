"""A tiny experiment that runs in this process: a few rows of the embedded task, a BERT of three layers, a few steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raydisc.config.experiment import Experiment
from raydisc.config.sections import (
    DistillationConfig,
    FineTuneConfig,
    GridConfig,
    OnceForAllConfig,
    ReviewsConfig,
    StudentConfig,
    TaskConfig,
    TeacherConfig,
)
from raydisc.models.precision import Arithmetic
from raydisc.schedules.base import Trial
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.executor import Executor
from raydisc.stages.problem import inspect
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker

STUDENT_SCALE = 0.25
ONE_THREAD = Arithmetic(1)

ARCHITECTURE: dict[str, bool | int | float | str] = {
    "model_type": "bert", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 20,
    "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
TRAINING: dict[str, Any] = {"epochs": 1.0, "lr": 3e-3, "batch_size": 32}


def tiny_experiment(**sections: Any) -> Experiment:
    """Return an experiment with 200 training rows, four candidates above a student of a quarter, 7 steps a stage.

    Args:
        sections: Sections to use instead.
    """
    tiny = {
        "task": TaskConfig(reviews=ReviewsConfig(train=200, validation=60, test=60, clauses=1), max_length=64),
        "teacher": TeacherConfig(
            architecture=ARCHITECTURE, finetune=FineTuneConfig(epochs=8.0, lr=3e-3, batch_size=32, beta2=0.98)
        ),
        "grid": GridConfig(scales=[0.9, 0.7, 0.5, 0.4, 0.1], importance_rows=64),
        "student": StudentConfig(scale=[STUDENT_SCALE]),
        "once_for_all": OnceForAllConfig(**TRAINING, evaluation_rows=32),
        "distillation": DistillationConfig(**TRAINING),
    }
    return Experiment(**{**tiny, **sections})


@dataclass(frozen=True)
class Ran:
    """A trial that was run in this process.

    Attributes:
        trial: The trial.
        outcome: Its outcome.
        stages: The stages that it asked for, each once, with their artifacts, in order.
        computed: The number of stages that had not been in the storage before.
        store: The artifacts.
    """

    trial: Trial
    outcome: Outcome
    stages: Sequence[tuple[Stage, Artifact]]
    computed: int
    store: ArtifactStore


def run_trial(experiment: Experiment, trial: Trial, storage: Path) -> Ran:
    """Run a trial in this process, on one thread.

    Args:
        experiment: The experiment.
        trial: One of its trials.
        storage: The folder of artifacts; stages that lie there are not computed again.
    """
    store = ArtifactStore(storage)
    asked: dict[str, tuple[Stage, Artifact]] = {}
    found: list[bool] = []

    def note(stage: Stage, artifact: Artifact, was_there: bool) -> None:
        if artifact.key not in asked:
            found.append(was_there)
        asked.setdefault(artifact.key, (stage, artifact))

    worker = Worker(store, torch.device("cpu"))
    executor = Executor(store, worker, ONE_THREAD, lambda state: None, note)
    outcome = executor.run(steps_of(trial, experiment, inspect(experiment)))
    return Ran(trial, outcome, list(asked.values()), found.count(False), store)
