"""One trial that chooses its assistant in a supernet by the λ-tradeoff (MiniDisc, arXiv 2205.14570, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import Lam
from raydisc.schedules.base import Choice, Mark, Schedule, assistants_beside
from raydisc.schedules.controls import DECISIVE
from raydisc.schedules.steps import Outcome, Steps
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.facts import SupernetFacts
from raydisc.tradeoff import DEFAULT_LAM, Measured, Scored, choose

if TYPE_CHECKING:
    from raydisc.schedules.search import Contest, Ready, Search


class MinidiscOptions(ScheduleOptions):
    """Options of ``minidisc``."""

    lam: Lam = DEFAULT_LAM
    """λ of the tradeoff ``m + λ(1 - s)``."""
    assistants: Annotated[int, Field(ge=1, le=3)] = 1
    """The number of assistants that are chosen, one after the other."""
    reinvest: bool = True
    """Train the student longer, until the search has cost what the grid's cheapest path would have cost alone; one
    assistant only."""


class Chosen(NamedTuple):
    """The assistants that were chosen in a supernet.

    Attributes:
        path: Their scales.
        supernet: The supernet in which they were chosen.
        finalist: That supernet after the first of them was trained on alone; None where all were trained to the end.
    """

    path: tuple[float, ...]
    supernet: Artifact
    finalist: Artifact | None

    @property
    def weights(self) -> Artifact:
        """The artifact with the weights that are gone on with."""
        return self.finalist or self.supernet


class Minidisc(Schedule[MinidiscOptions]):
    """Train all candidates once for all, choose the assistant by the λ-tradeoff, distil assistant → student."""

    name = "minidisc"
    Options = MinidiscOptions
    title = "MiniDisc"
    mark = Mark("#D55E00", "*")
    place = 50
    by_default = True
    compared = True
    measured_against = True
    controls = DECISIVE

    @property
    def assistants(self) -> int:
        """The number of assistants that are chosen."""
        return self.options.assistants

    @property
    def lam(self) -> float:
        """λ of the choice."""
        return self.options.lam

    @property
    def stem(self) -> str:
        """The name with λ, and with the other options where they are not the usual ones."""
        several = f"-assistants-{self.assistants}" if self.assistants > 1 else ""
        saved = "" if self.options.reinvest else "-not-reinvested"
        return f"{self.name}-lam-{self.lam:.15g}{several}{saved}"

    @classmethod
    def beside(cls, others: Sequence[Schedule[Any]]) -> Minidisc:
        """Return the schedule with as many assistants as others have."""
        return cls(MinidiscOptions(assistants=assistants_beside(others)))

    def run(self, search: Search) -> Steps[Outcome]:
        """Train candidates once for all, pick the assistant by the λ-tradeoff, distil assistant → student.

        The candidates compete side by side for a share of the steps; the chosen one alone is trained for the rest. Only
        the student is trained in the last stage; where what was saved is reinvested, until the search has cost what the
        cheapest path of the grid, that of its smallest assistant, costs alone. With more than one assistant the choice
        is repeated among the candidates between the last assistant and the student, all of which are trained to the
        end, and nothing is reinvested.
        """
        ready = yield from search.prepare()
        chosen = yield from self.chosen(search, ready)
        supernet, path = chosen.weights, chosen.path
        reinvests = self.options.reinvest and self.assistants == 1
        saved = search.saved(supernet, search.assistant_scales[-1]) if reinvests else None
        teacher = Model(supernet, path[0])
        for scale in (*path[1:], search.student_scale):
            start = ready.teacher if search.from_teacher else Model(supernet)
            teacher = Model((yield from search.distil(ready, teacher, start, scale, extra=saved)))
        initialisation = "teacher" if search.from_teacher else "supernet"
        return Outcome(teacher.artifact, path, initialisation, chosen.supernet, chosen.finalist)

    def chosen(self, search: Search, ready: Ready) -> Steps[Chosen]:
        """Train the candidates, choose the assistants, and train the first of them on alone."""
        contest = yield from self.contest(search, ready)
        candidates = SupernetFacts.of(contest.supernet).candidates
        path = choose_path(candidates, self.lam, self.assistants, search.student_scale)
        finalist = yield from search.finalist(contest, path[0])
        return Chosen(path, contest.supernet, finalist)

    def contest(self, search: Search, ready: Ready) -> Steps[Contest]:
        """Train the candidates, the student's own among them, in one set of weights.

        Where one assistant is chosen, it may be chosen early and only the smaller half be trained; a candidate that
        cannot be the first of several assistants may be the second.
        """
        scales = search.assistant_scales
        if self.assistants > 1:
            search = search.with_once_for_all(choose_at=1.0)
        elif search.experiment.once_for_all.candidates == "smaller_half":
            scales = scales[len(scales) // 2 :]
        return (yield from search.contest(ready, scales))

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return the assistants that some metrics make the λ-tradeoff choose, the largest first."""
        return choices_of(scales, self.lam, self.assistants)


def choices_of(scales: Sequence[float], lam: float, assistants: int) -> list[Choice]:
    """Return the assistants that some metrics make the λ-tradeoff choose one after the other, the largest first.

    Args:
        scales: The scales of a supernet, descending; the last is the student's own.
        lam: λ of the choices.
        assistants: The number of assistants.
    """
    *above, student = sorted(scales, reverse=True)
    paths = [path for count in range(assistants) for path in combinations(above, count + 1)]

    def chooses(choice: Choice) -> bool:
        metrics = dict.fromkeys(scales, 0.0) | dict(choice.metrics)
        measured = [Measured(scale, metric) for scale, metric in metrics.items()]
        return choose_path(measured, lam, assistants, student) == choice.path

    found = (Choice(path, metrics_choosing(path, lam)) for path in sorted(paths, reverse=True))
    return [choice for choice in found if chooses(choice)]


def choose_path(candidates: Sequence[Scored], lam: float, assistants: int, student_scale: float) -> tuple[float, ...]:
    """Return the scales of the best candidate above the student's, then of the best below that, and so on.

    There are fewer than ``assistants`` where the candidates run out.
    """
    path: list[float] = []
    while len(path) < assistants:
        below = path[-1] if path else math.inf
        if not any(student_scale < candidate.scale < below for candidate in candidates):
            break
        path.append(choose(candidates, lam, above=student_scale, below=below).scale)
    return tuple(path)


def metrics_choosing(path: Sequence[float], lam: float) -> tuple[tuple[float, float], ...]:
    """Return metrics of candidates with which the λ-tradeoff chooses these assistants, where any metrics do.

    The metrics of all other candidates are 0.
    """
    metrics = []
    value = 1.0
    for place, scale in enumerate(path):
        if place:  # just below the metric with which the smaller of the two would be chosen first
            value -= lam * (path[place - 1] - scale) + 1e-9
        metrics.append((scale, max(0.0, value)))
    return tuple(metrics)
