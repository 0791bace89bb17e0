"""The supernet as a stage holds it: built from the sorted teacher, evaluated candidate by candidate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from raydisc.families.base import Config
from raydisc.models.cost import ForwardCost
from raydisc.models.precision import Precision
from raydisc.models.structure import full_structure, structure_to_json
from raydisc.parallel.rank import ALONE, Rank
from raydisc.stages.context import Context
from raydisc.stages.facts import ImportanceFacts
from raydisc.stages.files import read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.models import trainable_model
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.scoring import judge
from raydisc.stages.store import ArtifactStore
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.elastic import make_elastic, select
from raydisc.tasks.tokenised import Split
from raydisc.training.progress import ScoredCandidate


@dataclass(frozen=True)
class Supernet:
    """The elastic model with its candidates.

    Attributes:
        model: The model, as wide as the largest candidate.
        config: The teacher's configuration.
        candidates: The candidates, largest first.
        cost: The cost of a forward at any structure.
        precision: The precision to compute in.
        rank: The rank of this worker.
    """

    model: nn.Module
    config: Config
    candidates: tuple[Candidate, ...]
    cost: ForwardCost
    precision: Precision = "float32"
    rank: Rank = ALONE

    def select(self, candidate: Candidate) -> None:
        """Make a candidate the active one."""
        select(self.model, self.config, candidate.structure)


def read_candidates(request: OnceForAllRequest, store: ArtifactStore) -> tuple[Candidate, ...]:
    """Return the candidates of a request, largest first."""
    scales = sorted(request.scales, reverse=True)
    return tuple(read_candidate(store, request.importance, scale) for scale in scales)


def build_supernet(request: OnceForAllRequest, context: Context) -> Supernet:
    """Build a supernet: the sorted teacher, cut to the largest candidate and made elastic."""
    teacher = read_weights(context.store, request.origin)
    candidates = read_candidates(request, context.store)
    largest = candidates[0]
    state = largest.structure.cut(teacher.state, teacher.config)
    model = trainable_model(teacher.config, largest.structure, state, context)
    make_elastic(model, teacher.config)
    del state  # the model has a copy of its own
    cost, precision = ForwardCost.of(model, teacher.config), context.execution.precision
    return Supernet(model, teacher.config, candidates, cost, precision, context.rank)


def evaluate_candidates(
    supernet: Supernet, candidates: Sequence[Candidate], request: OnceForAllRequest, validation: Split, context: Context
) -> tuple[list[ScoredCandidate], dict[float | None, np.ndarray], float]:
    """Return the score of each candidate, its predictions by scale, and the FLOPs."""
    data, importance = request.data, ImportanceFacts.of(request.importance)
    scored: list[ScoredCandidate] = []
    predictions: dict[float | None, np.ndarray] = {}
    flops = 0.0
    for candidate in candidates:
        supernet.select(candidate)
        judged = judge(supernet.model, supernet.cost, candidate.structure, validation, data, context)
        flops += judged.flops
        predictions[candidate.scale] = judged.predictions
        size = candidate.structure.size(supernet.config, importance.parameters)
        scored.append(
            ScoredCandidate(
                scale=candidate.scale,
                measured_scale=size.measured_scale,
                parameters=size.parameters,
                reference=importance.reference,
                metric=judged.metric,
                se=judged.se,
            )
        )
    return scored, predictions, flops


def described(
    supernet: Supernet, request: OnceForAllRequest, scored: Sequence[ScoredCandidate], validation: Split
) -> list[dict[str, Any]]:
    """Return evaluated candidates with their sizes, their costs and the units that they keep."""
    config = supernet.config
    length = round(float(validation.lengths.mean()))
    teacher_flops = supernet.cost.flops(full_structure(config), 1, length)
    structures = {candidate.scale: candidate.structure for candidate in supernet.candidates}
    found = []
    for candidate in scored:
        structure = structures[candidate.scale]
        flops = supernet.cost.flops(structure, 1, length)
        found.append(
            {
                **asdict(candidate),
                "flops": flops,
                "flops_share": flops / teacher_flops,
                **structure_to_json(structure),
            }
        )
    return found
