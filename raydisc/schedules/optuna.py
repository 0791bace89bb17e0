"""Search by Optuna (Akiba et al. 2019, arXiv 1907.10902): trials are proposed one after another, from results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import Count, Seed
from raydisc.config.space import (
    DEFAULT_SPACE,
    LAM,
    PATH,
    AssistantsConfig,
    ChoicesConfig,
    DistributionConfig,
    paths_of,
    refusal_of_space,
)
from raydisc.config.stopping import StoppingConfig, or_named
from raydisc.schedules.base import Choice, Mark, Schedule, Trial
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.schedules.path import along
from raydisc.schedules.space import Point, corners
from raydisc.schedules.steps import Outcome, Steps

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class OptunaOptions(ScheduleOptions):
    """Options of ``optuna``."""

    trials: Count = 20
    """Number of trials for each student, teacher and seed; fewer if the space has no more."""
    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    """The source of proposals. tpe: a tree-structured Parzen estimator. gp: a Gaussian process. nsga2: a genetic
    algorithm that looks for the best metric at each number of FLOPs. random: draws from the space. The first quarter of
    the trials (at most 10, with nsga2 at most 50) is drawn at random."""
    space: Annotated[dict[str, DistributionConfig], Field(min_length=1)] = DEFAULT_SPACE
    """What a trial may be: ``path``, ``lam`` and settings of ``once_for_all`` and ``distillation`` by dotted names,
    each with a range (``low``, ``high``, ``log``) or ``choices``; ``path`` with ``assistants`` or ``choices``."""
    seed: Seed = 0
    """Seed of the proposals."""
    at_once: Count = 4
    """Number of trials that are open at the same time. Each is proposed from the results of all trials before it but
    the last ``at_once - 1``, so that proposals do not depend on which trial ends first."""
    warm_start: Annotated[str, Field(min_length=1)] | None = None
    """An earlier run in the same storage with the same task, teacher and grid. Its finished trials that the space has
    are known from the start."""
    stopping: Annotated[StoppingConfig | None, Field(json_schema_extra=or_named)] = None
    """Rule by which trials are stopped early: ``asha`` or ``median``; null: no trial is."""

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if sentence := refusal_of_space(self.space):
            raise ValueError(f"space: {sentence}")
        if self.stopping is not None and self.sampler == "nsga2":
            raise ValueError("'stopping' compares trials by one number, but nsga2 looks for two; leave 'stopping' out")
        return self


@dataclass(frozen=True)
class Optuna(Schedule[OptunaOptions]):
    """Propose each trial from the results of those before it: a path or a λ, with settings of its own.

    Attributes:
        chosen_lam: λ of a trial that does as MiniDisc does; None for one that has a path.
    """

    name = "optuna"
    Options = OptunaOptions
    title = "Optuna"
    mark = Mark("#882255", "X")
    place = 70
    source = "raydisc.runs.study:SEARCH"
    fronts = True

    chosen_lam: float | None = None

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil along the path that was proposed, or as MiniDisc does with the λ that was proposed."""
        if self.chosen_lam is None:
            return (yield from along(search, search.path))
        return (yield from self._minidisc.run(search))

    def trials(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make no trial: each is proposed when results are known."""
        yield from ()

    def examples(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make the trials in the corners of the space."""
        trials = (self.trial_at(point, student_scale, seed) for point in corners(self.options.space, above))
        yield from {trial.name: trial for trial in trials}.values()

    def trial_at(self, point: Point, student_scale: float, seed: int) -> Trial:
        """Make the trial of a point of the space."""
        schedule = replace(self, chosen_lam=point.lam)
        return Trial(schedule, student_scale, seed, point.path).with_settings(point.settings)

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return the choices of MiniDisc with the λ of the trial."""
        return (Choice(),) if self.chosen_lam is None else self._minidisc.choices(scales)

    def refusal(self, scales: Sequence[float], student_scale: float) -> str | None:
        """Return a sentence where the grid lacks assistants, or where one of a path is not larger than the student."""
        path = self.options.space.get(PATH)
        if isinstance(path, ChoicesConfig):
            for one in paths_of(path):
                if one and one[-1] <= student_scale:
                    return (
                        f"schedules: the path {list(one)} in the space of {self.name} must stay above the student's "
                        f"scale {student_scale:g}"
                    )
        return super().refusal(scales, student_scale)

    @property
    def assistants(self) -> int:
        """The largest number of assistants that a trial takes from the grid."""
        path = self.options.space.get(PATH)
        return max(path.assistants if isinstance(path, AssistantsConfig) else 0, LAM in self.options.space)

    @property
    def lam(self) -> float | None:
        """λ of the trial."""
        return self.chosen_lam

    @property
    def most(self) -> int:
        """The number of trials, unless the space has fewer."""
        return self.options.trials

    @property
    def stopping(self) -> StoppingConfig | None:
        """The rule by which trials are stopped early."""
        return self.options.stopping

    @property
    def label(self) -> str:
        """The name with the sampler, and with the seed of proposals where it is not the usual one."""
        return f"{self.name}-{self.options.sampler}" + (f"-search-{self.options.seed}" if self.options.seed else "")

    @property
    def stem(self) -> str:
        """The label with the trial's λ."""
        return self.label + ("" if self.chosen_lam is None else f"-lam-{self.chosen_lam:.15g}")

    @property
    def _minidisc(self) -> Minidisc:
        return Minidisc(MinidiscOptions(lam=self.chosen_lam or 0.0))

    __hash__ = Schedule.__hash__
