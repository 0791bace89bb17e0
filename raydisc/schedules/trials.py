"""The trials of an experiment: one schedule with one set of choices each."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, cast

from raydisc.config.experiment import Experiment
from raydisc.config.settings import may_be_set, settable_names, with_setting
from raydisc.errors import InputError
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.search import Ready, Search
from raydisc.schedules.steps import Outcome, Steps, scales_above
from raydisc.stages.artifact import Artifact
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
    """Return the trials of schedules for every teacher, seed and student of an experiment, without controls.

    Raises:
        InputError: The grid has no room for a schedule.
    """
    scales = experiment.grid.scales
    for schedule in schedules:
        for student_scale in student_scales:
            if refusal := schedule.refusal(scales, student_scale):
                raise InputError(refusal)
    return [
        replace(trial, teacher_seed=teacher_seed)
        for teacher_seed in experiment.teachers
        for seed in experiment.seeds
        for student_scale in student_scales
        for schedule in schedules
        for trial in schedule.trials(scales_above(scales, student_scale), student_scale, seed)
    ]


def _controls(trials: Sequence[Trial], experiment: Experiment) -> list[Trial]:
    """Return the controls of trials, kind by kind, each once for what it depends on."""
    found: dict[Hashable, Trial] = {}
    asked, names = dict.fromkeys(kind for trial in trials for kind in trial.schedule.controls), experiment.controls
    for kind in (it for it in asked if not isinstance(names, list) or it.name in names):
        for rival in trials:
            control = kind.of(rival.schedule)
            if kind in rival.schedule.controls and control.is_needed(experiment, rival.student_scale):
                stands_for = (kind, rival.teacher_seed, control.stands_for(experiment, rival))
                found.setdefault(stands_for, replace(rival, schedule=control))
    return list(found.values())


def preparation(experiment: Experiment, subject: Subject, teacher_seed: int | None = None) -> Steps[Ready]:
    """Return the steps that all trials by one teacher begin with, whatever their student and their seed.

    Args:
        experiment: The experiment.
        subject: Its task and its teacher.
        teacher_seed: The teacher's seed; None for a teacher that is the only one.

    Raises:
        InputError: The experiment has no such teacher.
    """
    one = experiment.with_one_teacher(teacher_seed)
    return Search(one, subject, student_scale=1.0, seed=experiment.seeds[0]).prepare()


def notices_of_outputs(experiment: Experiment, subject: Subject, data: Artifact) -> list[str]:
    """Return a sentence where the budgets leave no place to keep the outputs of a teacher in, else nothing.

    Args:
        experiment: The experiment.
        subject: Its task and its teacher.
        data: The tokenised task.

    Raises:
        InputError: The outputs do not fit where they are to be kept.
    """
    config = experiment.teacher_outputs
    place = Search(experiment, subject, student_scale=1.0, seed=experiment.seeds[0]).place_of_outputs(data)
    if config.source != "auto" or place != "online":
        return []
    return [
        f"teacher_outputs: neither budget_gib: {config.budget_gib:g} nor disk_budget_gib: {config.disk_budget_gib:g} "
        "holds the outputs of a teacher on the training rows, so that teachers are run in every step"
    ]


def steps_of(trial: Trial, experiment: Experiment, subject: Subject) -> Steps[Outcome]:
    """Return the steps of a trial, ready to ask for its first stage.

    Raises:
        InputError: The trial has a setting that no trial may have, or that cannot have the value; or the experiment
            does not have its teacher.
    """
    search = Search(_experiment_of(trial, experiment), subject, trial.student_scale, trial.seed, trial.path)
    return trial.schedule.steps(search)


def _experiment_of(trial: Trial, experiment: Experiment) -> Experiment:
    """Return the experiment with the trial's own teacher and settings."""
    try:
        experiment = experiment.with_one_teacher(trial.teacher_seed)
    except InputError as error:
        raise InputError(f"trial {trial.name}: {error}") from error
    for place, value in trial.settings:
        if not may_be_set(place):
            raise InputError(
                f"trial {trial.name}: the setting '{place}' is not one that a trial may have; "
                f"give a setting of {settable_names()}"
            )
        section, _, name = place.partition(".")
        try:
            settings = with_setting(getattr(experiment, section), name, value)
        except ValueError as error:
            raise InputError(f"trial {trial.name}: {section}.{error}") from error
        experiment = experiment.model_copy(update={section: settings})
    return experiment
