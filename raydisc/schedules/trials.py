"""The trials of an experiment: one schedule with one set of choices each."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, cast

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.search import Search
from raydisc.schedules.steps import Outcome, Steps, scales_above
from raydisc.stages.problem import Subject


def schedules_of(experiment: Experiment) -> list[Schedule[Any]]:
    """Return the schedules that an experiment names, with their options."""
    return [cast("Schedule[Any]", config.schedule()) for config in experiment.schedules]


def expand(experiment: Experiment, student_scales: Sequence[float]) -> list[Trial]:
    """Return all trials of an experiment, schedules before their controls.

    Raises:
        InputError: The grid has no room for a schedule.
    """
    trials = trials_of(schedules_of(experiment), experiment, student_scales)
    return [*trials, *_controls(trials, experiment)] if experiment.controls else trials


def trials_of(
    schedules: Sequence[Schedule[Any]], experiment: Experiment, student_scales: Sequence[float]
) -> list[Trial]:
    """Return the trials of schedules for every seed and student of an experiment, without controls.

    Raises:
        InputError: The grid has no room for a schedule.
    """
    scales = experiment.grid.scales
    for schedule in schedules:
        for student_scale in student_scales:
            if refusal := schedule.refusal(scales, student_scale):
                raise InputError(refusal)
    return [
        trial
        for seed in experiment.seeds
        for student_scale in student_scales
        for schedule in schedules
        for trial in schedule.trials(scales_above(scales, student_scale), student_scale, seed)
    ]


def _controls(trials: Sequence[Trial], experiment: Experiment) -> list[Trial]:
    """Return the controls of trials, kind by kind, each once for what it depends on."""
    found: dict[Hashable, Trial] = {}
    for kind in dict.fromkeys(kind for trial in trials for kind in trial.schedule.controls):
        for rival in trials:
            control = kind.of(rival.schedule)
            if kind in rival.schedule.controls and control.is_needed(experiment):
                found.setdefault((kind, control.stands_for(experiment, rival)), replace(rival, schedule=control))
    return list(found.values())


def steps_of(trial: Trial, experiment: Experiment, subject: Subject) -> Steps[Outcome]:
    """Return the steps of a trial, ready to ask for its first stage."""
    search = Search(experiment, subject, trial.student_scale, trial.seed, trial.path)
    return trial.schedule.steps(search)
