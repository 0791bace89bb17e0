"""The kinds of stages by name: where their classes are, and what reports ask where they have but the name.

Reports read a ledger without importing one of raydisc's own stages, and torch with it.
"""

from dataclasses import dataclass
from typing import Any

from raydisc.registry import Registry
from raydisc.stages.facts import (
    DistilFacts,
    EvaluatedFacts,
    Facts,
    FinalistFacts,
    ImportanceFacts,
    ModelFacts,
    OnceForAllFacts,
    OutputsFacts,
    TaskFacts,
)


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    Attributes:
        place: The module and the name of its class; empty for a kind that another package adds.
        searched: Whether its stages belong to the cost of a search; not what exists before it, nor the test after it.
        makes_teacher: Whether its stages make the teacher.
        keeps_outputs: Whether its stages keep the outputs of a model, which can be large.
        supernet: Whether its stages make a supernet.
        finalist: Whether its stages train one candidate of a supernet on.
        tests: Whether its stages read the test split.
        facts: The facts that its artifacts have; by default nothing is known of them.
    """

    place: str = ""
    searched: bool = True
    makes_teacher: bool = False
    keeps_outputs: bool = False
    supernet: bool = False
    finalist: bool = False
    tests: bool = False
    facts: type[Facts] = Facts


KINDS = {
    "tokenise": Kind("raydisc.stages.tokenise:Tokenise", searched=False, facts=TaskFacts),
    "finetune": Kind("raydisc.stages.finetune:FineTune", searched=False, makes_teacher=True, facts=ModelFacts),
    "importance": Kind("raydisc.stages.importance:Importance", facts=ImportanceFacts),
    "teacher_outputs": Kind("raydisc.stages.teacher_outputs:TeacherOutputs", keeps_outputs=True, facts=OutputsFacts),
    "once_for_all": Kind("raydisc.stages.once_for_all.stage:OnceForAll", supernet=True, facts=OnceForAllFacts),
    "finalist": Kind(
        "raydisc.stages.once_for_all.finalist:Finalist", supernet=True, finalist=True, facts=FinalistFacts
    ),
    "distil": Kind("raydisc.stages.distil:Distil", facts=DistilFacts),
    "extract": Kind("raydisc.stages.extract:Extract", facts=DistilFacts),
    "evaluate": Kind("raydisc.stages.evaluate:Evaluate", searched=False, tests=True, facts=EvaluatedFacts),
}
"""raydisc's own kinds by the name that ledgers and artifacts have of them."""

STAGES: Registry[Any] = Registry(
    "raydisc.stages",
    "kind of stage",
    "raydisc.stages.base:Stage",
    shipped={name: kind.place for name, kind in KINDS.items()},
    key="kind",
)
"""The classes of stages by kind, subclasses of ``raydisc.stages.base.Stage``; to ask for one imports it."""


def kind_named(name: str) -> Kind:
    """Return the kind of a name; one that nobody has registered is taken to be part of the search."""
    if name in KINDS:
        return KINDS[name]
    about: Kind = STAGES.get(name).about if name in STAGES else Kind()
    return about
