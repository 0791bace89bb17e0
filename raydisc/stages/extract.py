"""The stage that takes a student out of a supernet as it stands."""

from dataclasses import dataclass
from typing import ClassVar

from raydisc.models.cost import ForwardCost
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import DistilFacts, ImportanceFacts, Score
from raydisc.stages.files import (
    prediction_table,
    read_split,
    read_structure,
    read_weights,
    table_blob,
    weight_blobs,
)
from raydisc.stages.models import frozen_model
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.scoring import judge, run_evaluation
from raydisc.stages.work import Work, over_split


@dataclass(frozen=True)
class Extract(Stage):
    """Take a candidate out of a supernet, which becomes the student without further training.

    Attributes:
        data: The tokenised task.
        importance: The teacher's units' scores.
        supernet: The supernet.
        scale: The candidate's scale.
    """

    kind: ClassVar[str] = "extract"
    data: Artifact
    importance: Artifact
    supernet: Artifact
    scale: float

    def compute(self, context: Context) -> Result:
        """Copy the candidate's weights and evaluate it on validation."""
        weights = read_weights(context.store, Model(self.supernet, self.scale))
        model, structure = frozen_model(weights, context), weights.structure
        validation = read_split(context.store, self.data, "validation")
        cost = ForwardCost.of(model, weights.config)
        judged = judge(model, cost, structure, validation, self.data, context, len(validation))
        size = structure.size(weights.config, ImportanceFacts.of(self.importance).parameters)
        score = Score(None, "validation", judged.metric, judged.se)
        facts = DistilFacts(self.scale, size.measured_scale, size.parameters, 0, [score])
        blobs = weight_blobs(weights.config, structure, self.scale, weights.state, context.rank)
        table = prediction_table({None: judged.predictions}, validation.labels, "validation")
        blobs["predictions.arrow"] = table_blob(table)
        return Result(facts.to_json(), judged.flops, blobs)

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``."""
        validation = read_split(outlook.store, self.data, "validation")
        structure = read_structure(outlook.store, Model(self.supernet, self.scale))
        return Plan(
            facts={"scale": self.scale, "steps": 0},
            work=Work((over_split(structure, validation),)),
            stored=outlook.weight_bytes(structure) + prediction_bytes(validation, self.data),
            files=outlook.model_files(structure, self.scale),
            run=run_evaluation,
        )

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return f"{self.scale:g} of the supernet"
