"""The cost of searches, whose trials are not known: bounds from trials at the ends of the space."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from raydisc.config.experiment import Experiment
from raydisc.forecast.dry_run import Forecast, Forecaster, Planned
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.rungs import Rung, bracket
from raydisc.schedules.steps import scales_above
from raydisc.schedules.trials import schedules_of
from raydisc.stages.artifact import Artifact

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


@dataclass(frozen=True)
class LadderForecast(SearchForecast):
    """A forecast of the cost of a search by successive halving."""

    def cost(self, amount: Callable[[Planned], float], counts: Callable[[Planned], bool]) -> Bounds:
        """Return an amount of all rungs, whichever arms go on."""
        found = []
        for places, ways in self._rungs():
            arms: dict[str, list[dict[str, float]]] = defaultdict(list)
            for way in ways:
                arms[_rung(way).arm].append({stage.key: amount(stage) for stage in way.needed if counts(stage)})
            found.append((places, arms))
        return bracket(found)._asdict()

    @property
    def stages(self) -> int:
        """The most stages beyond those of the first rung."""
        known, most = set(self.shared), 0
        for places, ways in self._rungs()[1:]:
            new = [{stage.key for stage in way.needed} - known for way in ways]
            most += places * max(map(len, new))
            known = known.union(*new)
        return most

    @cached_property
    def shared(self) -> set[str]:
        """The keys of the stages on the first rung, all of which are computed."""
        [(_, ways), *_] = self._rungs()
        return {stage.key for way in ways for stage in way.needed}

    def _rungs(self) -> list[tuple[int, list[Forecast]]]:
        """Return the number of places on each rung, and the trials that may stand there."""
        found: dict[int, tuple[int, list[Forecast]]] = {}
        for way in self.ways:
            rung = _rung(way)
            found.setdefault(rung.number, (rung.places[rung.number - 1], []))[1].append(way)
        return [found[number] for number in sorted(found)]


def _rung(way: Forecast) -> Rung:
    rung = way.trial.rung
    assert rung is not None
    return rung


def foreseen(
    experiment: Experiment,
    schedule: Schedule[Any],
    student: float,
    teacher_seed: int | None,
    seed: int,
    forecaster: Forecaster,
) -> list[Trial]:
    """Return the trials at the ends of what a search may propose for one student, one teacher and one seed.

    Args:
        experiment: The experiment.
        schedule: The search.
        student: The student's scale.
        teacher_seed: The seed of the teacher, where there are several.
        seed: The seed of the trials.
        forecaster: Foresees what trials cost.

    Raises:
        InputError: The search cannot work.
    """

    def price(trial: Trial) -> list[list[Artifact]]:
        return forecaster.price(replace(trial, teacher_seed=teacher_seed))

    above = scales_above(experiment.grid.scales, student)
    found = schedule.foreseen(experiment, above, student, seed, price)
    return [replace(trial, teacher_seed=teacher_seed) for trial in found]


def examples_of(experiment: Experiment, students: Sequence[float], forecaster: Forecaster) -> list[Trial]:
    """Return trials at the ends of what an experiment's searches may propose, for each teacher, seed and student."""
    return [
        trial
        for teacher_seed in experiment.teachers
        for seed in experiment.seeds
        for student in students
        for schedule in schedules_of(experiment)
        if schedule.source
        for trial in foreseen(experiment, schedule, student, teacher_seed, seed, forecaster)
    ]


def searches_in(forecasts: Sequence[Sequence[Forecast]]) -> list[SearchForecast]:
    """Return the searches that forecasts of examples belong to, one for each student, teacher and seed."""
    found: dict[Any, list[Forecast]] = {}
    for ways in forecasts:
        trial = ways[0].trial
        options = trial.schedule.options.model_dump_json()
        found.setdefault((trial.schedule.name, options, trial.student_scale, trial.replicate), []).extend(ways)
    return [_search(ways) for ways in found.values()]


def _search(ways: Sequence[Forecast]) -> SearchForecast:
    kind = SearchForecast if ways[0].trial.rung is None else LadderForecast
    return kind(ways[0].trial.schedule, ways)
