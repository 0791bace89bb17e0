"""MiniDisc by the rule of its released code (arXiv 2205.14570), which ``minidisc`` shortens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import Lam
from raydisc.schedules.base import Choice, Mark, Schedule
from raydisc.schedules.controls import DECISIVE
from raydisc.schedules.minidisc import choices_of, choose_path
from raydisc.schedules.steps import Outcome, Steps, scales_above
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.tradeoff import DEFAULT_LAM

if TYPE_CHECKING:
    from raydisc.schedules.search import Search

LARGEST_SCALE = 0.5
"""The largest candidate: the released code trains none with more than half of the teacher's units."""

MAX_GRAD_NORM = 5.0
EVALUATIONS_PER_EPOCH = 10


class MinidiscPaperOptions(ScheduleOptions):
    """Options of ``minidisc_paper``."""

    lam: Lam = DEFAULT_LAM
    """λ of the tradeoff ``m + λ(1 - s)``."""
    assistants: Annotated[int, Field(ge=1, le=3)] = 1
    """The number of assistants that are chosen, each in a supernet of its own."""


class MinidiscPaper(Schedule[MinidiscPaperOptions]):
    """Supernet → assistant at its best step → supernet below the assistant → student at its best step."""

    name = "minidisc_paper"
    Options = MinidiscPaperOptions
    title = "MiniDisc (paper)"
    mark = Mark("#D55E00", "p")
    place = 51
    controls = DECISIVE

    @property
    def assistants(self) -> int:
        """The number of assistants that are chosen."""
        return self.options.assistants

    @property
    def lam(self) -> float:
        """λ of the choices."""
        return self.options.lam

    def refusal(self, scales: Sequence[float], student_scale: float) -> str | None:
        """Return a sentence where too few scales of at most a half lie above the student's."""
        if len(_eligible(scales_above(scales, student_scale))) >= self.assistants:
            return None
        return (
            f"grid.scales has too few scales above the student's scale {student_scale:g} and not above "
            f"{LARGEST_SCALE:g}: {self.name} needs at least {self.assistants} for its assistants"
        )

    def run(self, search: Search) -> Steps[Outcome]:
        """Train, choose and train again, as the released code does.

        A step trains every candidate on the whole batch and minimises half the mean of their losses, with gradients
        clipped at 5 and the teacher's dropout. The weights of the evaluation with the best tradeoff are kept, and the
        candidate that has it is the assistant. The next supernet is cut from the assistant and trained towards it,
        with the assistant's own scale and all below as candidates. In the last one the student's metric decides
        which weights are kept, and the student is taken out of it as it stands.
        """
        search = published(search)
        ready = yield from search.prepare()
        left, teacher, supernet = _eligible(search.assistant_scales), ready.teacher, None
        path: tuple[float, ...] = ()
        while len(path) < self.assistants and left:
            supernet = yield from search.once_for_all(ready, left, self.lam, teacher)
            [scale] = choose_path(SupernetFacts.of(supernet).candidates, self.lam, 1, search.student_scale)
            teacher, path = Model(supernet, scale), (*path, scale)
            left = tuple(it for it in left if it < scale)
        last = yield from search.once_for_all(ready, (path[-1], *left), teacher=teacher)
        return Outcome((yield from search.extract(ready, last)), path, "supernet", supernet)

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return the assistants that some metrics make the λ-tradeoff choose, the largest first."""
        return choices_of(scales, self.lam, self.assistants)


def published(search: Search) -> Search:
    """Return a search with the released code's settings of once-for-all; epochs and learning rate stay the user's."""
    config = search.experiment.once_for_all
    return search.with_once_for_all(
        sandwich="all",
        step_loss="half_mean",
        max_grad_norm=MAX_GRAD_NORM,
        dropout=None,
        choose_at=1.0,
        keep="best",
        patience=None,
        evaluations=max(1, round(EVALUATIONS_PER_EPOCH * config.epochs)),
        evaluation_rows=None,
    )


def _eligible(above: Sequence[float]) -> tuple[float, ...]:
    return tuple(scale for scale in above if scale <= LARGEST_SCALE)
