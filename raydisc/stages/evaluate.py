"""The stage that reads the test split once."""

from dataclasses import dataclass
from typing import ClassVar

from raydisc.models.cost import ForwardCost
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import EvaluatedFacts, Score
from raydisc.stages.files import prediction_table, read_split, read_structure, read_weights, table_blob
from raydisc.stages.kinds import kind_named
from raydisc.stages.models import frozen_model
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.scoring import judge, run_evaluation
from raydisc.stages.work import Work, over_split


@dataclass(frozen=True)
class Evaluate(Stage):
    """Read the test split once with a finished student."""

    kind: ClassVar[str] = "evaluate"
    data: Artifact
    student: Artifact

    @property
    def of_teacher(self) -> bool:
        """Whether the teacher is tested."""
        return kind_named(self.student.kind).makes_teacher

    def compute(self, context: Context) -> Result:
        """Predict every test row with the finished student."""
        weights = read_weights(context.store, Model(self.student))
        model = frozen_model(weights, context)
        split = read_split(context.store, self.data, "test")
        cost = ForwardCost.of(model, weights.config)
        judged = judge(model, cost, weights.structure, split, self.data, context, len(split))
        blobs = {"predictions.arrow": table_blob(prediction_table({None: judged.predictions}, split.labels, "test"))}
        return Result(EvaluatedFacts([Score(None, "test", judged.metric, judged.se)]).to_json(), judged.flops, blobs)

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``."""
        test = outlook.split(self.data, "test")
        work = Work((over_split(read_structure(outlook.store, Model(self.student)), test),))
        return Plan({}, work, prediction_bytes(test, self.data), run=run_evaluation)

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return "test of the student"
