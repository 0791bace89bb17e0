"""What every schedule works with: one student scale, one seed, and the requests that an experiment stands for."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from raydisc.experiment import Experiment
from raydisc.stages.artifact import Artifact
from raydisc.stages.requests import (
    Distil,
    FineTune,
    Importance,
    Model,
    Objective,
    OnceForAll,
    Request,
    TeacherOutputs,
    Tokenise,
)
from raydisc.stages.subject import Subject
from raydisc.stages.targets import positions

DEFAULT_SANDWICH = 1
"""Candidates between the largest and the smallest in a step of ``sandwich: default``, as measured in the README."""

Result = TypeVar("Result")
Schedule = Generator[Request, Artifact, Result]
"""Asks for stages, is sent their artifacts, returns a result."""


@dataclass(frozen=True)
class Ready:
    """What every schedule starts from.

    Attributes:
        data: the tokenised task.
        finetuned: the teacher as it was made.
        teacher: the teacher with its units sorted by importance; it computes the same.
        outputs: its outputs on the training rows.
        importance: the scores, which say what each scale keeps.
    """

    data: Artifact
    finetuned: Artifact
    teacher: Model
    outputs: Artifact
    importance: Artifact


@dataclass(frozen=True)
class Outcome:
    """What a schedule ends with.

    Attributes:
        student: the distilled student's artifact.
        path: the scales of its assistants in order, empty without any.
        initialisation: what the student was cut from: ``teacher``, ``assistant`` or ``supernet``.
        trained: artifacts that this schedule trained, in order, the student last.
        supernet: the once-for-all artifact, if there is one.
        lam: λ of the choice, if there was one.
    """

    student: Artifact
    path: tuple[float, ...]
    initialisation: str
    trained: tuple[Artifact, ...]
    supernet: Artifact | None = None
    lam: float | None = None


@dataclass(frozen=True)
class Search:
    """One search: an experiment's subject, one student scale, one seed."""

    experiment: Experiment
    subject: Subject
    student_scale: float
    seed: int

    @property
    def assistant_scales(self) -> tuple[float, ...]:
        """Scales of the grid above the student's, descending."""
        return tuple(scale for scale in self.experiment.grid.scales if scale > self.student_scale)

    @property
    def from_teacher(self) -> bool:
        """Whether every student is cut from the teacher, whoever taught it."""
        return self.experiment.distillation.initialisation == "teacher"

    def prepare(self) -> Schedule[Ready]:
        """Tokenised task, teacher, its outputs, its importance: shared by all schedules and seeds."""
        experiment, subject = self.experiment, self.subject
        teacher = experiment.teacher
        data = yield Tokenise(subject.task_fingerprint, subject.tokenizer_fingerprint, experiment.task, teacher)
        trained = yield FineTune(data, subject.weights_fingerprint, teacher.finetune, teacher.seed, teacher)
        _, matched = positions(Objective.of(experiment.distillation), subject.num_layers)
        outputs = yield TeacherOutputs(data, trained, matched, experiment.teacher_outputs)
        importance = yield Importance.of(data, trained, experiment.grid, teacher.seed)
        return Ready(data, trained, Model(importance), outputs, importance)

    def once_for_all(self, ready: Ready) -> OnceForAll:
        """The supernet of all candidates down to the student's own scale."""
        config = self.experiment.once_for_all
        if config.sandwich == "default":
            config = config.model_copy(update={"sandwich": DEFAULT_SANDWICH})
        return OnceForAll(
            data=ready.data,
            outputs=ready.outputs,
            importance=ready.importance,
            scales=(*self.assistant_scales, self.student_scale),
            config=config,
            objective=Objective.of(self.experiment.distillation),
            seed=self.seed,
        )

    def distil(
        self, ready: Ready, teacher: Model, start: Model, scale: float, budget_flops: float | None = None
    ) -> Distil:
        """A model of a scale, cut from ``start`` and taught by ``teacher``."""
        return Distil(
            data=ready.data,
            importance=ready.importance,
            teacher=teacher,
            outputs=ready.outputs if teacher == ready.teacher else None,
            start=start,
            scale=scale,
            config=self.experiment.distillation,
            seed=self.seed,
            teacher_outputs=self.experiment.teacher_outputs,
            budget_flops=budget_flops,
        )
