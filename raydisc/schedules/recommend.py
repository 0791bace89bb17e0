"""A recommendation: arms that share one budget by successive halving, and go on from their checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import Count, listed
from raydisc.errors import InputError
from raydisc.schedules.arms import ARMS, USUAL, Arm
from raydisc.schedules.base import Choice, Mark, Price, Schedule, Trial
from raydisc.schedules.rungs import Rung, bracket
from raydisc.schedules.steps import Outcome, Steps, noted
from raydisc.stages.artifact import Artifact

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class RecommendOptions(ScheduleOptions):
    """Options of ``recommend``."""

    budget_flops: Annotated[float, Field(gt=0)]
    """FLOPs that the search may cost for each student, teacher and seed, from a finished teacher to the student."""
    arms: Annotated[list[str], Field(strict=False, min_length=1)] = list(ARMS)
    """Ways to spend the budget, the most promising first. With one arm it has the whole budget."""
    first_steps: Count = 40
    """Fewest optimiser steps after which arms are compared; a budget that is too small for two arms at this number is
    spent on the first arm alone."""

    @field_validator("arms")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in ARMS]
        if unknown or len(set(names)) < len(names):
            wrong = f"{listed(unknown)} is not one" if unknown else "one is named twice"
            raise ValueError(f"should be different arms out of {listed(list(ARMS))}, but {wrong}")
        return names


Shape = tuple[tuple[float, int], ...]
"""For each rung the share of an arm's FLOPs after which it ends, and the number of arms that come so far."""

SHAPES: tuple[Shape, ...] = (
    ((1 / 32, 6), (1 / 16, 3), (1 / 8, 2), (1.0, 1)),
    ((1 / 16, 4), (1 / 8, 2), (1.0, 1)),
    ((1 / 8, 2), (1.0, 1)),
)
"""Ladders, the one with the most arms first; to find the arm of the last rung takes about a fifth of the budget."""

_TRIES = 8
_SPARE = 0.002
"""The share of the budget that may remain, since steps are whole."""


@dataclass(frozen=True)
class Recommend(Schedule[RecommendOptions]):
    """Spend a budget on several arms, halve them by their validation metric, and finish one.

    Attributes:
        standing: The arm of a trial and its rung; without one, the first arm has the whole budget.
    """

    name = "recommend"
    Options = RecommendOptions
    title = "Recommendation"
    mark = Mark("#000000", "P")
    place = 75
    source = "raydisc.runs.recommendation:RECOMMENDATION"

    standing: Rung | None = field(default=None)

    @property
    def rung(self) -> Rung:
        """The place of the trial."""
        return self.standing or self._alone(self.options.arms[0])

    @property
    def arm(self) -> Arm:
        """The arm of the trial."""
        return ARMS[self.rung.arm]

    def run(self, search: Search) -> Steps[Outcome]:
        """Do the arm's first stages, then distil the student up to the rung, part by part."""
        ready = yield from search.prepare()
        rung, config = self.rung, self.arm.settled(search.experiment.distillation)
        search = search if config is None else search.with_distillation(config)
        begun, made = yield from noted(self.arm.begin(search, ready))
        student: Artifact | None = None
        for share in rung.shares or (1.0,):
            student = yield from search.distil_within(
                ready,
                begun.start,
                rung.flops - ready.importance.flops,
                made,
                begun.teacher,
                until=share if share < 1.0 else None,
                before=student,
            )
        assert student is not None
        return Outcome(student, begun.path, begun.initialisation, begun.supernet, begun.finalist)

    def trials(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make no trial: those of a rung are proposed when the rung before is known."""
        yield from ()

    def examples(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make a trial of each arm that has the whole budget for itself."""
        for name in self.options.arms:
            if above or not ARMS[name].assistant:
                yield Trial(replace(self, standing=self._alone(name)), student_scale, seed)

    def foreseen(
        self, experiment: Experiment, above: Sequence[float], student_scale: float, seed: int, price: Price
    ) -> Iterator[Trial]:
        """Make the trials of all rungs, for whichever arms may come so far.

        Raises:
            InputError: The budget is smaller than the cost of one step.
        """
        plain = experiment.distillation
        alone = [
            trial
            for trial in self.examples(above, student_scale, seed)
            if ARMS[_rung(trial).arm].settled(plain) is not None
        ]
        if not alone:
            raise InputError(f"schedules: none of the arms of {self.name} fits the experiment; name others, such as kd")
        least = max(sum(artifact.flops for artifact in way) for way in price(alone[0]))
        if least > self.options.budget_flops:
            raise InputError(
                f"schedules: budget_flops of {self.name} is {self.options.budget_flops:.4g}, but one step of "
                f"{ARMS[self.options.arms[0]].title} with all that comes before it costs {least:.4g}; give more"
            )
        for shape in SHAPES:
            found = _Ladder(self, alone, price, shape).trials() if len(alone) > 1 else None
            if found is not None:
                yield from found
                return
        yield alone[0]

    def at(self, trial: Trial, rung: Rung) -> Trial:
        """Return a trial on another rung."""
        return replace(trial, schedule=replace(self, standing=rung))

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return the choices of MiniDisc, for arms that choose as it does."""
        return USUAL.choices(scales) if self.arm.chooses else (Choice(),)

    def refusal(self, scales: Sequence[float], student_scale: float) -> str | None:
        """Return a sentence where no arm has the assistants that it needs."""
        if any(not ARMS[name].assistant for name in self.options.arms) or max(scales) > student_scale:
            return None
        return (
            f"every arm of {self.name} needs an assistant, but no scale of grid.scales is above the student's "
            f"{student_scale:g}; add the arm kd"
        )

    @property
    def lam(self) -> float | None:
        """λ of the choice, for arms that make one."""
        return USUAL.lam if self.arm.chooses else None

    @property
    def most(self) -> int:
        """The number of trials on all rungs."""
        return sum(self.rung.places)

    @property
    def label(self) -> str:
        """The name."""
        return self.name

    @property
    def stem(self) -> str:
        """The name with the arm and its rung."""
        if self.standing is None:
            return self.name
        number = f"-rung-{self.standing.number}" if len(self.standing.places) > 1 else ""
        return f"{self.name}-{self.standing.arm}{number}"

    def _alone(self, arm: str) -> Rung:
        """Return the place of an arm that has the whole budget."""
        return Rung(arm, self.options.budget_flops, self.options.budget_flops)

    __hash__ = Schedule.__hash__


class _Ladder:
    """The trials of a ladder of some shape, as long as the budget allows.

    Args:
        schedule: The schedule.
        alone: A trial of each arm with the whole budget.
        price: Foresees what a trial costs.
        shape: The shape.
    """

    def __init__(self, schedule: Recommend, alone: Sequence[Trial], price: Price, shape: Shape) -> None:
        """Find out which arms fit on which rung."""
        self._schedule, self._price = schedule, price
        self._budget = schedule.options.budget_flops
        self._factor = sum(
            places * (share - below) for (share, places), (below, _) in zip(shape, ((0.0, 0), *shape), strict=False)
        )
        length = self._budget / self._factor
        self._alone = {trial: self._before_student(trial, length) for trial in alone}
        self._base = self._alone[alone[0]]
        self._shape = shape
        self._entries = self._placed(length)

    def trials(self) -> list[Trial] | None:
        """Return the trials of all rungs; None where the budget is too small or too few arms fit."""
        at_once = list(self._entries.values()).count(0)
        if 2 * at_once <= self._shape[0][1]:
            return None
        length, found = self._budget / self._factor, None
        for _ in range(_TRIES):
            made = self._made(length)
            spare = self._budget - self._worst(made)
            if spare >= 0:
                found = made
                if spare < _SPARE * self._budget:
                    break
            length = float(f"{length + spare / (self._factor if spare > 0 else 1.0):.8g}")
        if found is None or min(map(self._first_steps, self._begun(found))) < self._schedule.options.first_steps:
            return None
        return [trial for rung in found for trial in rung]

    def _before_student(self, trial: Trial, length: float) -> float:
        """Return the FLOPs of an arm of some length up to its student's first step."""
        ways = self._price(self._schedule.at(trial, replace(_rung(trial), flops=length)))
        return max(sum(artifact.flops for artifact in way[:-1]) for way in ways)

    def _reached(self, share: float, length: float) -> float:
        return self._base + share * (length - self._base)

    def _placed(self, length: float) -> dict[Trial, int]:
        """Return the rung on which each arm begins: the first that it reaches with half of the FLOPs or more left.

        Arms for which there is no room there are left out; later ones leave a place to an arm that was compared before.
        """
        entries: dict[Trial, int] = {}
        left = dict(self._alone)
        for place, (share, places) in enumerate(self._shape[:-1]):
            half = (self._reached(share, length) - self._base) / 2
            fitting = [trial for trial, cost in left.items() if cost - self._base <= half]
            entries |= dict.fromkeys(fitting[: places if place == 0 else places - 1], place)
            left = {trial: cost for trial, cost in left.items() if trial not in fitting}
        return entries

    def _made(self, length: float) -> list[list[Trial]]:
        """Return the trials of each rung for arms of some length."""
        places = self._places
        rungs: list[list[Trial]] = [[] for _ in self._shape]
        for trial in self._alone:
            if trial not in self._entries:
                continue
            before, entry = self._alone[trial], self._entries[trial]
            shares = [
                (self._reached(share, length) - before) / (length - before) if share < 1.0 else 1.0
                for share, _ in self._shape
            ]
            for place in range(entry, len(places)):
                rung = Rung(_rung(trial).arm, self._budget, length, places, place + 1, tuple(shares[entry : place + 1]))
                rungs[place].append(self._schedule.at(trial, rung))
        return rungs

    def _worst(self, rungs: Sequence[Sequence[Trial]]) -> float:
        """Return the most that trials of all rungs may cost."""
        priced = [
            {_rung(trial).arm: [{it.key: it.flops for it in way} for way in self._price(trial)] for trial in trials}
            for trials in rungs
        ]
        return bracket(list(zip(self._places, priced, strict=True))).high

    @property
    def _places(self) -> tuple[int, ...]:
        """The number of arms that come to each rung."""
        begun = list(self._entries.values())
        found: list[int] = []
        for place, (_, most) in enumerate(self._shape):
            found.append(min(most, sum(found[-1:]) + begun.count(place)))
        return tuple(found)

    def _begun(self, rungs: Sequence[Sequence[Trial]]) -> list[Trial]:
        return [trial for trials in rungs for trial in trials if len(_rung(trial).shares) == 1]

    def _first_steps(self, trial: Trial) -> int:
        return min(int(way[-1]["steps"]) for way in self._price(trial))


def _rung(trial: Trial) -> Rung:
    rung = trial.schedule.rung
    assert rung is not None
    return rung
