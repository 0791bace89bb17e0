"""What every schedule works with: one student scale, one seed, and the requests that an experiment stands for."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from raydisc.config.experiment import Experiment
from raydisc.config.sections import DistillationConfig
from raydisc.signals.cache import OutputsShape
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import Stage
from raydisc.stages.distil import Distil
from raydisc.stages.finetune import FineTune
from raydisc.stages.importance import Importance
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.problem import Subject
from raydisc.stages.targets import positions
from raydisc.stages.teacher_outputs import TeacherOutputs, kept_in, outputs_shape
from raydisc.stages.tokenise import Tokenise
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.metrics import metric

Result = TypeVar("Result")
Schedule = Generator[Stage, Artifact, Result]
"""Asks for stages, is sent their artifacts, returns a result."""


@dataclass(frozen=True)
class Ready:
    """What every schedule starts from.

    Attributes:
        data: the tokenised task.
        finetuned: the teacher as it was made.
        teacher: the teacher with its units sorted by importance; it computes the same.
        importance: the scores, which say what each scale keeps.
    """

    data: Artifact
    finetuned: Artifact
    teacher: Model
    importance: Artifact


@dataclass(frozen=True)
class Outcome:
    """What a schedule ends with.

    Attributes:
        student: the distilled student's artifact.
        path: the scales of its assistants in order, empty without any.
        initialisation: what the student was cut from: ``teacher``, ``assistant`` or ``supernet``.
        own: artifacts of the stages after the preparation, in order: what was trained and the outputs it was trained
            towards, each once, the student last.
        supernet: the once-for-all artifact, if there is one.
        lam: λ of the choice, if there was one.
    """

    student: Artifact
    path: tuple[float, ...]
    initialisation: str
    own: tuple[Artifact, ...]
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
        """Tokenised task, teacher, its importance: shared by all schedules and seeds."""
        experiment, subject = self.experiment, self.subject
        teacher = experiment.teacher
        data = yield Tokenise(subject.task_fingerprint, subject.tokenizer_fingerprint, experiment.task, teacher)
        if data.facts is not None:  # so that outputs which do not fit are refused before the teacher is trained
            kept_in(experiment.teacher_outputs, self._outputs_shape(data))
        trained = yield FineTune(data, subject.weights_fingerprint, teacher.finetune, teacher.seed, teacher)
        importance = yield Importance.of(data, trained, experiment.grid, teacher.seed)
        return Ready(data, trained, Model(importance), importance)

    def once_for_all(self, ready: Ready, lam: float, assistants: int) -> Schedule[tuple[Artifact, ...]]:
        """The supernet of the candidates down to the student's own scale.

        Where one assistant is chosen, λ may choose it before the end and only the smaller half be trained; what cannot
        be the first of several may be the second.

        Returns:
            The artifacts made for it: the teacher's outputs, if they were asked for, and the supernet.
        """
        config, scales, one = self.experiment.once_for_all, self.assistant_scales, assistants == 1
        if one and config.candidates == "smaller_half":
            scales = scales[len(scales) // 2 :]
        outputs = yield from self.outputs_of(ready, ready.teacher, config.epochs)
        supernet = yield OnceForAll(
            data=ready.data,
            outputs=outputs[0] if outputs else None,
            importance=ready.importance,
            scales=(*scales, self.student_scale),
            config=config,
            objective=Objective.of(self._distillation),
            seed=self.seed,
            lam=lam if one and config.choose_at < 1 else None,
        )
        return (*outputs, supernet)

    def distil(
        self,
        ready: Ready,
        teacher: Model,
        start: Model,
        scale: float,
        budget_flops: float | None = None,
        instead_of: Model | None = None,
    ) -> Schedule[tuple[Artifact, ...]]:
        """A model of a scale, cut from ``start`` and taught by ``teacher``.

        Returns:
            The artifacts made for it: its teacher's outputs, if they were asked for, and the model.
        """
        config = self._distillation
        outputs = yield from self.outputs_of(ready, teacher, config.epochs if budget_flops is None else 1)
        student = yield Distil(
            data=ready.data,
            importance=ready.importance,
            teacher=teacher,
            outputs=outputs[0] if outputs else None,
            start=start,
            scale=scale,
            config=config,
            seed=self.seed,
            budget_flops=budget_flops,
            instead_of=instead_of,
        )
        return (*outputs, student)

    def outputs_of(self, ready: Ready, teacher: Model, epochs: float = 1.0) -> Schedule[tuple[Artifact, ...]]:
        """A model's outputs, computed once where each row is wanted at least once; for fewer rows it is run."""
        if epochs < 1:
            return ()
        # the teacher as it was made computes the same as the sorted one, whatever the importance
        model = Model(ready.finetuned) if teacher == ready.teacher else teacher
        config, top_tokens = self.experiment.teacher_outputs, self._distillation.top_tokens
        return ((yield TeacherOutputs(ready.data, model, self._matched, config, top_tokens)),)

    def _outputs_shape(self, data: Artifact) -> OutputsShape:
        return outputs_shape(data, self._matched, self.subject.hidden_size, self._distillation.top_tokens)

    @property
    def _distillation(self) -> DistillationConfig:
        """The section; settings that the kind of task never reads have their defaults, so that keys ignore them."""
        ignored = task_kind(metric(self.subject.metric).kind).ignored
        defaults = {name: DistillationConfig.model_fields[name].default for name in ignored}
        return self.experiment.distillation.model_copy(update=defaults)

    @property
    def _matched(self) -> tuple[int, ...]:
        """Positions of a teacher whose hidden states are compared."""
        return positions(Objective.of(self._distillation), self.subject.num_layers)[1]
