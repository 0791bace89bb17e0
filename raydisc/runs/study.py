"""A search as a source of proposals, whose trials and results are kept in a journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from raydisc.errors import InputError
from raydisc.runs.journal import JOURNAL, Journal, StudyRecord
from raydisc.runs.proposals import Curve, TrialResult
from raydisc.runs.sampling import draw, objectives, refuse_missing_sampler
from raydisc.runs.sources import Asked, SourceKind
from raydisc.runs.warm_start import Observation, earlier_experiment, observations
from raydisc.schedules.base import Trial
from raydisc.schedules.optuna import Optuna
from raydisc.schedules.space import dimensions, point_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class Study:
    """Proposes the trials of a search, for one student, one teacher and one seed.

    Each trial is a function of the results that it may wait for, so that a search that was killed proposes what it
    would have proposed: trials in the journal are proposed again, and the others from the same results.

    Args:
        schedule: The search.
        above: The scales of the grid above the student's, descending.
        student_scale: The student's scale.
        seed: The seed of the trials.
        journal: Keeps the trials.
        teacher_seed: The seed of their teacher, where there are several.

    Raises:
        InputError: The journal has a study of this name of another experiment.
    """

    def __init__(
        self,
        schedule: Optuna,
        above: Sequence[float],
        student_scale: float,
        seed: int,
        journal: Journal,
        teacher_seed: int | None = None,
    ) -> None:
        """Read the trials that were proposed before."""
        self._schedule, self._options = schedule, schedule.options
        self._above, self._student_scale, self._seed = tuple(above), student_scale, seed
        self._teacher_seed = teacher_seed
        self._dimensions = dimensions(self._options.space, self._above)
        teacher = "" if teacher_seed is None else f"-teacher-{teacher_seed}"
        self.name = f"{schedule.label}-to-{student_scale:.15g}{teacher}-seed-{seed}"
        self.record: StudyRecord = journal.study(self.name, objectives(self._options))
        self._earlier = self.record.curves()
        self._proposed: list[str] = []
        self._ended: set[str] = set()
        self._exhausted = False

    def next(self) -> Trial | None:
        """Return the next trial; None while a result that it depends on is not known, and after the last one."""
        number = len(self._proposed)
        known_before = max(0, number + 1 - self._options.at_once)
        if (
            number >= self._options.trials
            or self._exhausted
            or not self._ended.issuperset(self._proposed[:known_before])
        ):
            return None
        before = self.record.proposed
        trial = self._trial(before[number].params) if number < len(before) else self._drawn(before, known_before)
        if trial is None:
            self._exhausted = True
            return None
        self._proposed.append(trial.name)
        return trial

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Take the result of a trial, and keep it."""
        self._ended.add(trial.name)
        found = (result.metric, result.flops)[: len(objectives(self._options))]
        self.record.end(trial.name, result, None if None in found else [it for it in found if it is not None])

    def observe(self, run: str, trials: Sequence[Observation]) -> None:
        """Take finished trials of an earlier run as known."""
        self.record.observe(run, trials, self._dimensions, len(objectives(self._options)))

    def earlier(self, trial: str) -> Curve:
        """Return the evaluations of a trial that had ended before, by its name."""
        return self._earlier.get(trial, ())

    def _drawn(self, before: Sequence[FrozenTrial], known: int) -> Trial | None:
        """Draw a trial from the first results, and keep it."""
        names = set(self._proposed)
        history = [*self.record.observed, *before[:known], *map(_as_running, before[known:])]
        drawn = draw(
            self._options,
            self._dimensions,
            history,
            f"{self.name}/{len(before)}",
            lambda values: self._trial(values).name not in names,
        )
        if drawn is None:
            return None
        trial = self._trial(drawn.values)
        self.record.propose(trial.name, drawn, self._dimensions)
        return trial

    def _trial(self, values: Mapping[str, Any]) -> Trial:
        point = point_of(values, self._options.space, self._above)
        trial = self._schedule.trial_at(point, self._student_scale, self._seed)
        return replace(trial, teacher_seed=self._teacher_seed)


class Search:
    """The source of the trials of the schedule ``optuna``."""

    def refuse(self, asked: Asked) -> None:
        """Refuse a missing sampler, an earlier run that cannot be used, and stopping without evaluations to stop by.

        Raises:
            InputError: The search cannot work.
        """
        options = asked.schedule.options
        refuse_missing_sampler(options.sampler)
        if options.warm_start is not None and not asked.files.has(JOURNAL):
            earlier_experiment(asked, options.warm_start)
        evaluated = asked.experiment.distillation.patience or "distillation.patience" in options.space
        if options.stopping is not None and not evaluated:
            raise InputError(
                "schedules: 'stopping' of optuna compares students while they are trained, which are evaluated in the "
                "meantime only with distillation.patience; set it, for example to 100"
            )

    def begin(self, asked: Asked) -> Study:
        """Return the study of one student, one teacher and one seed, which is kept in the run's folder."""
        schedule = cast(Optuna, asked.schedule)
        journal = Journal(asked.files, asked.experiment.fingerprint())
        study = Study(schedule, asked.above, asked.student_scale, asked.seed, journal, asked.teacher_seed)
        run = schedule.options.warm_start
        if run is not None and not study.record.is_warm:
            study.observe(run, observations(asked, schedule, run))
        return study


SEARCH: SourceKind = Search()


def _as_running(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial without its result, which came early."""
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions,
        system_attrs=trial.system_attrs, user_attrs=trial.user_attrs,
    )  # fmt: skip
