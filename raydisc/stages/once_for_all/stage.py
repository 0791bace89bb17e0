"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from dataclasses import asdict, dataclass

from raydisc.models.structure import structure_to_json
from raydisc.stages.context import Context, Result
from raydisc.stages.once_for_all.compute import compute_once_for_all
from raydisc.stages.once_for_all.model import read_candidates
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.once_for_all.training import training_of
from raydisc.stages.plan import Outlook, Plan, prediction_bytes
from raydisc.stages.work import Work, over_split
from raydisc.tradeoff import Measured


@dataclass(frozen=True)
class OnceForAll(OnceForAllRequest):
    """Train all candidates of the grid in one set of weights: to the end, or up to the choice of one of them."""

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``; the candidates are taken to have the metrics of ``outlook``."""
        candidates = read_candidates(self, outlook.store)
        training = training_of(self, outlook, candidates)
        measured = [Measured(it.scale, outlook.metrics.get(it.scale, 0.0)) for it in candidates]
        rows = [asdict(found) | structure_to_json(it.structure) for it, found in zip(candidates, measured, strict=True)]
        judges = last = outlook.split(self.data, "validation", self.config.evaluation_rows)
        if training.ends_at is None:
            last = outlook.split(self.data, "validation")
        times = len(training.evaluate_at)
        passes = [
            *training.passes(),
            *(over_split(it.structure, judges, times) for it in candidates if times),
            *(over_split(it.structure, last) for it in candidates),
        ]
        left = 0 if training.ends_at is None else outlook.state_bytes(training)
        return Plan(
            facts={
                "candidates": rows,
                "steps": training.own_steps.stop,
                "chosen_at": training.ends_at,
                "outputs_flops": self.outputs.flops if self.outputs else 0.0,
            },
            work=Work(tuple(passes), training.structure),
            stored=outlook.weight_bytes(training.structure) + left + prediction_bytes(last, self.data, len(candidates)),
            files=outlook.model_files(training.structure, candidates[0].scale),
            training=training,
        )

    def compute(self, context: Context) -> Result:
        """Train by the sandwich rule and evaluate the candidates."""
        return compute_once_for_all(self, context)
