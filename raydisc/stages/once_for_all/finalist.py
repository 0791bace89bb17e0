"""The stage that goes on with a supernet after the choice: the chosen candidate trained alone."""

from dataclasses import dataclass, field
from typing import ClassVar

from raydisc.models.structure import structure_to_json
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import CHOSEN, NOT_IN_KEY, Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.once_for_all.compute import compute_finalist
from raydisc.stages.once_for_all.model import read_candidates
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.once_for_all.training import continued, training_of
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.work import Work, over_split


@dataclass(frozen=True)
class Finalist(Stage):
    """Train one candidate of a supernet alone, from where the contest of all candidates was broken off.

    What the contest was asked for is in its key, so that this stage needs no settings of its own.

    Attributes:
        contest: The artifact of the supernet.
        scale: The candidate's scale.
        asked: The supernet as it was asked for.
    """

    kind: ClassVar[str] = "finalist"
    contest: Artifact
    scale: float
    asked: OnceForAllRequest = field(metadata=NOT_IN_KEY)

    @property
    def data(self) -> Artifact:
        """The tokenised task."""
        return self.asked.data

    @property
    def seed(self) -> int:
        """The seed of batches and dropout, which the ledger has of each stage that trains."""
        return self.asked.seed

    @property
    def batch_size(self) -> int:
        """See ``Stage``."""
        return self.asked.batch_size

    def inputs(self) -> tuple[Artifact, ...]:
        """See ``Stage``; what the contest was made from is read again."""
        return (self.contest, *self.asked.inputs())

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return f"once-for-all, {CHOSEN if undecided else format(self.scale, 'g')} alone"

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``."""
        candidates = read_candidates(self.asked, outlook.store)
        chosen = next(candidate for candidate in candidates if candidate.scale == self.scale)
        training = continued(training_of(self.asked, outlook, candidates), chosen)
        validation = outlook.split(self.data, "validation")
        metric = next(it.metric for it in SupernetFacts.of(self.contest).candidates if it.scale == self.scale)
        row = {"scale": self.scale, "metric": metric, **structure_to_json(chosen.structure)}
        return Plan(
            facts={
                "scale": self.scale,
                "candidates": [row],
                "steps": len(training.own_steps),
                "outputs_flops": self.contest["outputs_flops"],
                "contest_flops": self.contest.flops,
            },
            work=Work((*training.passes(), over_split(chosen.structure, validation)), training.structure),
            stored=outlook.weight_bytes(training.structure) + prediction_bytes(validation, self.data),
            files=outlook.model_files(training.structure, candidates[0].scale),
            training=training,
        )

    def compute(self, context: Context) -> Result:
        """Train the candidate alone and evaluate it."""
        return compute_finalist(self.asked, self.contest, self.scale, context)
