"""The rule by which MiniDisc reinvests what its search has saved."""

from dataclasses import dataclass

from raydisc.models.cost import STEP_FORWARDS
from raydisc.stages.artifact import Model
from raydisc.stages.distil import Budget, Distil
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.files import read_structure
from raydisc.stages.importance import read_candidate
from raydisc.stages.training import Known
from raydisc.training.batches import BatchSource, pass_flops, steps_of


@dataclass(frozen=True)
class Saved(Budget):
    """The FLOPs by which a supernet was cheaper than an assistant that is distilled alone.

    To either side belong the outputs that were learned from, the teacher's and the assistant's: kept ones are computed
    once for each row, others in every epoch.

    Attributes:
        model: The assistant, a candidate of the supernet.
    """

    rule = ""  # the first rule, from before keys named them

    def flops(self, request: Distil, known: Known, source: BatchSource) -> float:
        """See ``Budget``; negative where the supernet was not cheaper."""
        supernet, scale, cost, store = self.model.artifact, self.model.scale, known.cost, known.store
        assert scale is not None
        alone = read_candidate(store, request.importance, scale).structure
        assistant, teacher = (read_structure(store, model) for model in (request.teacher, Model(request.importance)))
        train, validation = (known.split(request.data, split) for split in ("train", "validation"))
        steps = range(steps_of(request.config, source.steps_per_epoch))
        times = request.config.epochs if request.outputs is None else 1.0
        path = times * sum(pass_flops(cost, structure, train) for structure in (teacher, alone))
        path += sum(STEP_FORWARDS * cost.flops(alone, *source.shape(step)) for step in steps)
        path += pass_flops(cost, alone, validation)
        found = SupernetFacts.of(supernet)
        search = found.outputs_flops + found.contest_flops + supernet.flops
        search += times * pass_flops(cost, assistant, train)
        return path - search
