"""The cost of searches, whose trials are not known: bounds from trials at the ends of the space."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from raydisc.config.experiment import Experiment
from raydisc.forecast.dry_run import Forecast, Planned
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.steps import scales_above
from raydisc.schedules.trials import schedules_of

Bounds = dict[str, float]
"""What is expected of an amount, and between what it lies: ``expected``, ``low`` and ``high``."""


def bounds_of(values: Sequence[float]) -> Bounds:
    """Return the mean of values, the smallest and the largest one."""
    return {"expected": sum(values) / len(values), "low": min(values), "high": max(values)}


@dataclass(frozen=True)
class SearchForecast:
    """A forecast of the cost of a search for one student, one teacher and one seed.

    Attributes:
        schedule: The search.
        ways: Forecasts of trials at the ends of its space.
    """

    schedule: Schedule[Any]
    ways: Sequence[Forecast]

    def cost(self, amount: Callable[[Planned], float], counts: Callable[[Planned], bool]) -> Bounds:
        """Return an amount of all trials: what each has for itself times their number, and what they share once.

        What only some trials ask for is not a part of the least that they may cost.

        Args:
            amount: The amount of a stage.
            counts: Whether a stage is counted.
        """
        shared = {stage.key: stage for way in self.ways for stage in way.needed if stage.key in self.shared}
        by_all = set.intersection(*({stage.key for stage in way.needed} for way in self.ways))
        once = {key: amount(stage) for key, stage in shared.items() if counts(stage)}
        bounds = bounds_of([sum(amount(stage) for stage in self._own(way) if counts(stage)) for way in self.ways])
        least = sum(value for key, value in once.items() if key in by_all)
        whole = sum(once.values())
        return {bound: (least if bound == "low" else whole) + self.schedule.most * own for bound, own in bounds.items()}

    def searched(self, amount: Callable[[Planned], float]) -> Bounds:
        """Return an amount of the search, from a finished teacher on, as if it had run alone."""
        return self.cost(amount, lambda stage: stage.searched)

    @property
    def stages(self) -> int:
        """The most stages that its trials have for themselves."""
        return self.schedule.most * max(len(self._own(way)) for way in self.ways)

    @cached_property
    def shared(self) -> set[str]:
        """The keys of stages that trials with different settings ask for, so that they do not follow from these."""
        groups = {way.trial.settings for way in self.ways}
        askers: dict[str, set[Any]] = defaultdict(set)
        for way in self.ways:
            for stage in way.needed:
                askers[stage.key].add(way.trial.settings if len(groups) > 1 else way.trial)
        return {key for key, found in askers.items() if len(found) > 1}

    def _own(self, way: Forecast) -> list[Planned]:
        return [stage for stage in way.needed if stage.key not in self.shared]


def examples_of(experiment: Experiment, students: Sequence[float]) -> list[Trial]:
    """Return trials at the ends of the spaces of an experiment's searches, for each teacher, seed and student."""
    return [
        replace(trial, teacher_seed=teacher_seed)
        for teacher_seed in experiment.teachers
        for seed in experiment.seeds
        for student in students
        for schedule in schedules_of(experiment)
        if schedule.source
        for trial in schedule.examples(scales_above(experiment.grid.scales, student), student, seed)
    ]


def searches_in(forecasts: Sequence[Sequence[Forecast]]) -> list[SearchForecast]:
    """Return the searches that forecasts of examples belong to, one for each student, teacher and seed."""
    found: dict[Any, list[Forecast]] = {}
    for ways in forecasts:
        trial = ways[0].trial
        options = trial.schedule.options.model_dump_json()
        found.setdefault((trial.schedule.name, options, trial.student_scale, trial.replicate), []).extend(ways)
    return [SearchForecast(ways[0].trial.schedule, ways) for ways in found.values()]
