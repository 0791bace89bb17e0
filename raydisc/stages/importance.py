"""The stage that scores the teacher's units and sorts its weights by the scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from raydisc.config.sections import Allocation, GridConfig
from raydisc.families.registry import layers_of
from raydisc.models.cost import SCORE_FORWARDS, ForwardCost
from raydisc.models.precision import Precision
from raydisc.models.structure import full_structure
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import ImportanceFacts, ModelFacts, TaskFacts
from raydisc.stages.files import (
    Weights,
    json_blob,
    read_split,
    read_tensors,
    read_weights,
    sampled,
    task_kind_of,
    tensor_blob,
    weight_blobs,
)
from raydisc.stages.models import frozen_model
from raydisc.stages.plan import Outlook, Plan
from raydisc.stages.store import ArtifactStore
from raydisc.stages.work import Work, over_batches
from raydisc.supernet.candidates import Candidate, candidate, order_units, reordered
from raydisc.supernet.importance import (
    Importance as Scores,
)
from raydisc.supernet.importance import (
    gradient_importance,
    magnitude_importance,
    random_importance,
)
from raydisc.tasks.batching import EVALUATION_BATCH, evaluation_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.inference import FlopMeter


@dataclass(frozen=True)
class Importance(Stage):
    """Score the teacher's units and sort its weights by the scores; say how scales are allocated to layers.

    Attributes:
        data: The tokenised task.
        teacher: The teacher.
        method: The method by which units are scored.
        rows: The number of training rows that they are scored on; 0 where the method reads none.
        seed: The seed of the choice of these rows, or of random scores; 0 where nothing is drawn.
        allocation: The rule by which a scale is allocated to layers.
    """

    kind: ClassVar[str] = "importance"
    prepares: ClassVar[bool] = True
    version: ClassVar[int] = 4
    data: Artifact
    teacher: Artifact
    method: str
    rows: int
    seed: int
    allocation: Allocation = field(default="global", metadata={"since": "global"})

    @staticmethod
    def of(data: Artifact, teacher: Artifact, grid: GridConfig, seed: int) -> "Importance":
        """Return the request that an experiment's grid section stands for.

        Raises:
            NotYetKnown: The task has not been tokenised, so that its rows are not known.
        """
        total = TaskFacts.of(data).rows["train"]
        rows = min(grid.importance_rows, total) if grid.importance == "gradient" else 0
        draws = grid.importance == "random" or 0 < rows < total
        return Importance(data, teacher, grid.importance, rows, seed if draws else 0, grid.allocation)

    def compute(self, context: Context) -> Result:
        """Score the units on training rows only; write the scores, the order and the sorted teacher."""
        weights = read_weights(context.store, Model(self.teacher))
        scores, flops = _score(self, weights, context)
        layers = layers_of(weights.config)
        order = order_units(scores)
        state = reordered(weights.state, layers, order)
        blobs = weight_blobs(weights.config, weights.structure, 1.0, state, context.rank)
        blobs["order.json"] = json_blob({"heads": order.heads, "neurons": order.neurons})
        blobs["scores.safetensors"] = tensor_blob(named_scores(scores))
        teacher = ModelFacts.of(self.teacher)
        reference = task_kind_of(self.data).reference(teacher.evaluations[-1].metric)
        facts = ImportanceFacts(teacher.parameters, self.method, reference, self.allocation)
        return Result(facts.to_json(), flops, blobs)

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``."""
        structure, work = full_structure(outlook.config), Work()
        if self.method == "gradient":
            train = outlook.split(self.data, "train")
            work = Work((over_batches("score", structure, train.lengths, importance_batches(self, train)),))
        facts = ImportanceFacts(outlook.teacher_parameters, self.method, 1.0, self.allocation).to_json()
        scores = {"scores.safetensors": tensor_blob(named_scores(outlook.scores))}
        files = outlook.model_files(structure, 1.0) | scores
        return Plan(facts, work, outlook.weight_bytes(structure), files, run=self._run if work.passes else None)

    def _run(self, model: nn.Module, batches: Sequence[Batch], precision: Precision) -> None:
        """Score units by the first batch; one after another, batches need no more memory."""
        layers = layers_of(cast(PreTrainedModel, model).config)
        gradient_importance(model, layers, batches[:1])

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return f"importance, {self.method}"


def _score(request: Importance, weights: Weights, context: Context) -> tuple[Scores, float]:
    layers = layers_of(weights.config)
    if request.method == "random":
        return random_importance(layers, request.seed), 0.0
    model = frozen_model(weights, context)
    if request.method == "magnitude":
        return magnitude_importance(model, layers), 0.0
    data = request.data
    split = read_split(context.store, data, "train")
    batches = importance_batches(request, split)
    meter = FlopMeter(ForwardCost.of(model, weights.config), weights.structure)
    shares = context.one_pass(meter, sum(map(len, batches))).over(
        split, batches, TaskFacts.of(data).pad_id, context.device
    )
    scores = gradient_importance(model, layers, shares, context.rank)
    return scores, meter.flops * SCORE_FORWARDS


def importance_batches(request: Importance, split: Split) -> list[np.ndarray]:
    """Return the row numbers of each batch that gradient importance looks at."""
    chosen = sampled(len(split), request.rows, request.seed)
    return [chosen[rows] for rows in evaluation_batches(split.lengths[chosen], EVALUATION_BATCH)]


def named_scores(scores: Scores) -> dict[str, torch.Tensor]:
    """Return the scores as they are kept, by name."""
    named = {f"heads.{layer:03}": score for layer, score in enumerate(scores.heads)}
    return named | {f"neurons.{layer:03}": score for layer, score in enumerate(scores.neurons)}


def read_scores(store: ArtifactStore, importance: Artifact) -> Scores:
    """Read the scores of an importance artifact."""
    named = read_tensors(store, importance, "scores.safetensors")
    return Scores(
        heads=tuple(named[name] for name in sorted(named) if name.startswith("heads")),
        neurons=tuple(named[name] for name in sorted(named) if name.startswith("neurons")),
    )


def read_candidate(store: ArtifactStore, importance: Artifact, scale: float) -> Candidate:
    """Return the candidate that the scores give at a scale."""
    return candidate(read_scores(store, importance), scale, ImportanceFacts.of(importance).allocation)
