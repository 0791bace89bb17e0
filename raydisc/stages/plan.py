"""Plans: what a stage will do and leave, known from its request before any weights are there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from raydisc.models.build import build
from raydisc.models.precision import Precision
from raydisc.models.structure import Structure
from raydisc.models.task_heads import weights_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.facts import TaskFacts
from raydisc.stages.files import json_blob, prediction_table, subnet_of
from raydisc.stages.store import Blob
from raydisc.stages.training import Known, Training
from raydisc.stages.work import Work
from raydisc.supernet.importance import Importance as Scores
from raydisc.tasks.tokenised import Batch, Split


@dataclass(frozen=True, kw_only=True)
class Outlook(Known):
    """The facts that a plan is made from.

    Attributes:
        teacher_parameters: The parameters of the teacher, with the task's head.
        scores: The scores of the units; where nobody knows them yet, such that every layer keeps the same share.
        metrics: The metrics by scale that a supernet's candidates are taken to have; 0 for those left out.
    """

    teacher_parameters: int
    scores: Scores
    metrics: Mapping[float, float] = field(default_factory=dict)

    def weight_bytes(self, structure: Structure) -> int:
        """Return the bytes of a model's weights where they are kept."""
        with torch.device("meta"):
            return sum(tensor.nbytes for tensor in weights_of(build(self.config, structure)).values())

    def state_bytes(self, training: Training) -> int:
        """Return the bytes of a training state: weights and AdamW's moments, without the words that do not occur."""
        with torch.device("meta"):
            model = build(self.config, training.structure)
        words, tokens = cast(Any, model).get_input_embeddings().weight, training.source.tokens()
        unused = 0 if tokens is None else len(words) - len(tokens)
        weights = sum(tensor.nbytes for tensor in weights_of(model).values())
        return 3 * (weights - int(unused * words[0].nbytes))

    def model_files(self, structure: Structure, scale: float) -> dict[str, Blob]:
        """Return the files of a model that plans of later stages read."""
        return {"config.json": json_blob(self.config.to_dict()), "subnet.json": json_blob(subnet_of(structure, scale))}


Run = Callable[[nn.Module, Sequence[Batch], Precision], None]
"""Runs a frozen model over batches, as the stage does."""


@dataclass(frozen=True)
class Plan:
    """The work of a stage and the facts and files that it will leave.

    Attributes:
        facts: The facts that schedules read, those of results left out.
        work: The work of the stage.
        stored: The bytes of its large files, those of ``files`` left out.
        files: The files that plans of later stages read.
        training: The training that the stage runs; None where nothing is trained.
        run: Runs the model of a stage that trains nothing; None where no model is run.
    """

    facts: Mapping[str, Any]
    work: Work = Work()
    stored: int = 0
    files: Mapping[str, Blob] = field(default_factory=dict)
    training: Training | None = None
    run: Run | None = None


def prediction_bytes(split: Split, data: Artifact, models: int = 1) -> int:
    """Return the bytes of the predictions of ``models`` models on a split of a task."""
    num_labels = TaskFacts.of(data).num_labels
    one = prediction_table({None: np.zeros((len(split), num_labels), np.float32)}, split.labels, "validation")
    return models * int(one.nbytes)
