"""The sources of the trials that an experiment's schedules propose while the run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.report.ledger import Ledger
from raydisc.runs.proposals import Curve, Proposals, TrialResult
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.steps import scales_above
from raydisc.schedules.trials import schedules_of
from raydisc.stages.problem import Subject
from raydisc.storage.folder import Storage


@dataclass(frozen=True)
class Asked:
    """The circumstances of a source: one schedule, one student, one teacher and one seed of an experiment.

    Attributes:
        schedule: The schedule.
        experiment: The experiment.
        subject: Its task and its teacher.
        student_scale: The student's scale.
        teacher_seed: The seed of the teacher, where the experiment has several; else None.
        seed: The seed of the trials.
        storage: The storage, which has the folders of all runs.
    """

    schedule: Schedule[Any]
    experiment: Experiment
    subject: Subject
    student_scale: float
    teacher_seed: int | None
    seed: int
    storage: Storage

    @property
    def above(self) -> tuple[float, ...]:
        """The scales of the grid above the student's, descending."""
        return scales_above(self.experiment.grid.scales, self.student_scale)

    def examples(self) -> list[Trial]:
        """Return trials at the ends of what may be proposed."""
        made = self.schedule.examples(self.above, self.student_scale, self.seed)
        return [replace(trial, teacher_seed=self.teacher_seed) for trial in made]

    @property
    def files(self) -> Storage:
        """The run's own part of the storage, where the source may keep what it knows."""
        return self.storage / self.experiment.name

    @property
    def ledger(self) -> Ledger:
        """The ledger of the storage."""
        return Ledger(self.storage / "ledger")


class SourceKind(Protocol):
    """The kind of source that a schedule names as its ``source``."""

    def refuse(self, asked: Asked) -> None:
        """Refuse what cannot work before anything is computed or written, with an ``InputError``."""

    def begin(self, asked: Asked) -> Proposals:
        """Return the source, which goes on where an earlier one of the same run was."""


def asked_of(
    experiment: Experiment, subject: Subject, student_scales: Sequence[float], storage: Storage
) -> list[Asked]:
    """Return the sources that an experiment asks for, after checking each.

    Raises:
        InputError: One of them cannot work.
    """
    proposing = [schedule for schedule in schedules_of(experiment) if schedule.source]
    for label, count in Counter(schedule.label for schedule in proposing).items():
        if count > 1:
            raise InputError(f"schedules: {count} searches are named '{label}'; give each another 'seed' or experiment")
    found = [
        Asked(schedule, experiment, subject, student_scale, teacher_seed, seed, storage)
        for teacher_seed in experiment.teachers
        for seed in experiment.seeds
        for student_scale in student_scales
        for schedule in proposing
    ]
    for asked in found:
        if refusal := asked.schedule.refusal(experiment.grid.scales, asked.student_scale):
            raise InputError(refusal)
        _kind_of(asked).refuse(asked)
    return found


@runtime_checkable
class Remembering(Protocol):
    """A source that keeps the evaluations of trials from one driver to the next."""

    def earlier(self, trial: str) -> Curve:
        """Return the evaluations of a trial that had ended before, by its name; none for others."""


class Together:
    """Several sources of proposals as one.

    Args:
        sources: The sources, in the order in which they are asked.
    """

    def __init__(self, sources: Sequence[Proposals]) -> None:
        """Start with nothing proposed."""
        self._sources = sources
        self._source_of: dict[str, Proposals] = {}

    def next(self) -> Trial | None:
        """Return a trial of the first source that has one."""
        for source in self._sources:
            trial = source.next()
            if trial is not None:
                self._source_of[trial.name] = source
                return trial
        return None

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Tell the source that has proposed the trial."""
        self._source_of[trial.name].tell(trial, result)

    def earlier(self, trial: str) -> Curve:
        """Return the evaluations of a trial that had ended before this driver began, if its source keeps them."""
        source = self._source_of.get(trial)
        return source.earlier(trial) if isinstance(source, Remembering) else ()


def begun(asked: Sequence[Asked]) -> list[Proposals]:
    """Return the sources that were asked for.

    Raises:
        InputError: What an earlier one has left in the run's folder cannot be gone on with.
    """
    return [_kind_of(it).begin(it) for it in asked]


def _kind_of(asked: Asked) -> SourceKind:
    module, _, name = asked.schedule.source.partition(":")
    return cast("SourceKind", getattr(import_module(module), name))
