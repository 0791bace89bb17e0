"""The arms of a recommendation: ways to spend one budget on one student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raydisc.config.sections import DistillationConfig
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.schedules.steps import Steps
from raydisc.stages.artifact import Artifact, Model

if TYPE_CHECKING:
    from raydisc.schedules.search import Ready, Search


@dataclass(frozen=True)
class Begun:
    """The models that an arm distils its student with.

    Attributes:
        teacher: The model that the student is trained towards.
        start: The model that it is cut from.
        initialisation: The word of the ledger for where it is cut from.
        path: The scales of its assistants.
        supernet: The supernet in which an assistant was chosen, if there is one.
        finalist: That supernet after the chosen candidate was trained on alone.
    """

    teacher: Model
    start: Model
    initialisation: str = "teacher"
    path: tuple[float, ...] = ()
    supernet: Artifact | None = None
    finalist: Artifact | None = None


@dataclass(frozen=True)
class Arm:
    """A way to spend a budget.

    Attributes:
        name: The name in the ledger and in the names of trials.
        title: What it does, for people.
        begin: Asks for the stages before the student's own.
        lr: The number that the learning rate is multiplied by.
        hidden: Whether hidden states and other insides of the teacher are learned from, where the experiment does so.
        assistant: Whether it needs an assistant on the grid.
        chooses: Whether it chooses one in a supernet.
    """

    name: str
    title: str
    begin: Callable[[Search, Ready], Steps[Begun]] = field(compare=False)
    lr: float = 1.0
    hidden: bool = True
    assistant: bool = False
    chooses: bool = False

    def settled(self, config: DistillationConfig) -> DistillationConfig | None:
        """Return the settings of the arm's distillations; None where they would be those of plain KD."""
        losses = dict(config.losses) if self.hidden else _of_predictions(config.losses)
        if not any(losses.values()) or (not self.hidden and losses == config.losses):
            return None
        return config.model_copy(update={"lr": config.lr * self.lr, "losses": losses})


def _of_predictions(losses: Mapping[str, float]) -> dict[str, float]:
    """Return the losses that compare nothing inside the models."""
    from raydisc.losses.objective import signals_needed
    from raydisc.signals.logits import Logits

    return {name: weight for name, weight in losses.items() if set(signals_needed({name: weight})) <= {Logits}}


def _straight(search: Search, ready: Ready) -> Steps[Begun]:
    yield from ()
    return Begun(ready.teacher, ready.teacher)


def _smallest_assistant(search: Search, ready: Ready) -> Steps[Artifact]:
    return (yield from search.distil(ready, ready.teacher, ready.teacher, search.assistant_scales[-1]))


def _from_assistant(search: Search, ready: Ready) -> Steps[Begun]:
    assistant = yield from _smallest_assistant(search, ready)
    return Begun(ready.teacher, Model(assistant), "assistant")


def _by_assistant(search: Search, ready: Ready) -> Steps[Begun]:
    assistant = Model((yield from _smallest_assistant(search, ready)))
    return Begun(assistant, assistant, "assistant", search.assistant_scales[-1:])


def _by_chosen(search: Search, ready: Ready) -> Steps[Begun]:
    chosen = yield from USUAL.chosen(search, ready)
    teacher, start = Model(chosen.weights, chosen.path[0]), Model(chosen.weights)
    return Begun(teacher, start, "supernet", chosen.path, chosen.supernet, chosen.finalist)


def _from_supernet(search: Search, ready: Ready) -> Steps[Begun]:
    chosen = yield from USUAL.chosen(search, ready)
    return Begun(ready.teacher, Model(chosen.weights), "supernet", (), chosen.supernet, chosen.finalist)


USUAL = Minidisc(MinidiscOptions())
"""The choice of an assistant, as MiniDisc makes it by default."""

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("kd", "KD", _straight),
        Arm("kd_lr_up", "KD with three times the learning rate", _straight, lr=3.0),
        Arm("kd_from_supernet", "KD from the supernet's weights", _from_supernet, assistant=True, chooses=True),
        Arm("minidisc", "MiniDisc", _by_chosen, assistant=True, chooses=True),
        Arm("kd_from_assistant", "KD from the smallest assistant's weights", _from_assistant, assistant=True),
        Arm("takd", "distillation by the smallest assistant", _by_assistant, assistant=True),
        Arm("kd_predictions", "KD by predictions alone", _straight, hidden=False),
        Arm("kd_lr_down", "KD with a third of the learning rate", _straight, lr=1 / 3),
    )
}
"""The arms by name, in the order of the prior: of arms that cannot be told apart, the first goes on."""
