"""The stages that a schedule may ask for, as the experiment, one student scale and one seed have them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from raydisc.config.experiment import Experiment
from raydisc.config.sections import DistillationConfig, OnceForAllConfig
from raydisc.models.build import config_from_dict
from raydisc.models.cost import STEP_FORWARDS
from raydisc.models.form import Form
from raydisc.models.widths import Widths, prunable_parameters
from raydisc.schedules.reinvest import Saved
from raydisc.schedules.steps import Steps, scales_above
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.distil import Budget, Distil
from raydisc.stages.extract import Extract
from raydisc.stages.facts import SupernetFacts, TaskFacts
from raydisc.stages.finetune import FineTune
from raydisc.stages.importance import Importance
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.finalist import Finalist
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.problem import Subject
from raydisc.stages.targets import inner_of, positions, settled
from raydisc.stages.teacher_outputs import TeacherOutputs, kept_in, outputs_shape
from raydisc.stages.tokenise import Tokenise
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.metrics import metric


@dataclass(frozen=True)
class Ready:
    """The preparation, which every schedule starts from.

    Attributes:
        data: The tokenised task.
        finetuned: The teacher as it was made.
        teacher: The teacher with its units sorted by importance; it computes the same.
        importance: The scores, which decide what each scale keeps.
    """

    data: Artifact
    finetuned: Artifact
    teacher: Model
    importance: Artifact


class Contest(NamedTuple):
    """A supernet in which a choice is to be made.

    Attributes:
        asked: The stage as it was asked for.
        supernet: Its artifact.
    """

    asked: OnceForAll
    supernet: Artifact


@dataclass(frozen=True)
class Search:
    """The search of one trial.

    Attributes:
        experiment: The experiment.
        subject: Its task and its teacher.
        student_scale: The scale of the student wanted.
        seed: The seed of batches, dropout and the sandwich.
        path: The scales of the assistants in order, where the trial is given them.

    Example:
        >>> from raydisc.stages.problem import inspect
        >>> from raydisc.testing.runs import tiny_experiment
        >>> experiment = tiny_experiment()
        >>> search = Search(experiment, inspect(experiment), student_scale=0.25, seed=0)
        >>> search.assistant_scales
        (0.9, 0.7, 0.5, 0.4)
        >>> next(search.prepare()).kind
        'tokenise'
    """

    experiment: Experiment
    subject: Subject
    student_scale: float
    seed: int
    path: tuple[float, ...] = ()

    @property
    def assistant_scales(self) -> tuple[float, ...]:
        """The scales of the grid above the student's, descending."""
        return scales_above(self.experiment.grid.scales, self.student_scale)

    @property
    def from_teacher(self) -> bool:
        """Whether every student is cut from the teacher, whichever model it is trained towards."""
        return self.experiment.distillation.initialisation == "teacher"

    def prepare(self) -> Steps[Ready]:
        """Ask for the task, the teacher and its importance, which all schedules and seeds of one teacher share."""
        experiment, subject = self.experiment, self.subject
        teacher = experiment.teacher
        data = yield Tokenise(subject.task_fingerprint, subject.tokenizer_fingerprint, experiment.task, teacher)
        if data.facts is not None:  # outputs that do not fit are refused before the teacher is trained
            self.place_of_outputs(data)
        seed = teacher.seed if teacher.finetune else 0  # nothing of a finished teacher is drawn
        trained = yield FineTune(data, subject.weights_fingerprint, teacher.finetune, seed, teacher)
        importance = yield Importance.of(data, trained, experiment.grid, teacher.seed)
        return Ready(data, trained, Model(importance), importance)

    def once_for_all(
        self, ready: Ready, scales: tuple[float, ...], lam: float | None = None, teacher: Model | None = None
    ) -> Steps[Artifact]:
        """Ask for a supernet whose candidates are all trained to the end.

        Args:
            ready: The preparation.
            scales: The scales of the candidates, descending; the student's own scale is added.
            lam: The λ of the tradeoff by which the best weights are kept (``once_for_all.keep``); None where the
                student's own metric decides.
            teacher: The model that candidates are cut from and trained towards; the teacher itself by default.

        Returns:
            The supernet's artifact.
        """
        to_the_end = self.with_once_for_all(choose_at=1.0)
        return (yield (yield from to_the_end._supernet(ready, scales, lam, teacher or ready.teacher)))

    def contest(self, ready: Ready, scales: tuple[float, ...]) -> Steps[Contest]:
        """Ask for a supernet that is trained until one of its candidates is to be chosen (``once_for_all.choose_at``).

        Args:
            ready: The preparation.
            scales: The scales of the candidates, descending; the student's own scale is added.
        """
        asked = yield from self._supernet(ready, scales, None, ready.teacher)
        return Contest(asked, (yield asked))

    def finalist(self, contest: Contest, scale: float) -> Steps[Artifact | None]:
        """Ask that a candidate of a contest is trained on alone; None where all were trained to the end."""
        if SupernetFacts.of(contest.supernet).chosen_at is None:
            return None
        return (yield Finalist(contest.supernet, scale, contest.asked))

    def _supernet(
        self, ready: Ready, scales: tuple[float, ...], lam: float | None, teacher: Model
    ) -> Steps[OnceForAll]:
        config = self._once_for_all(ready.data)
        outputs = yield from self._outputs_for(ready, teacher, config.epochs)
        return OnceForAll(
            data=ready.data,
            outputs=outputs,
            importance=ready.importance,
            scales=(*scales, self.student_scale),
            config=config,
            objective=Objective.of(self._distillation),
            seed=self.seed,
            lam=lam,
            teacher=None if teacher == ready.teacher else teacher,
        )

    def distil(
        self,
        ready: Ready,
        teacher: Model,
        start: Model,
        scale: float,
        budget_flops: float | None = None,
        extra: Budget | None = None,
        form: Form | None = None,
        kept: bool = False,
        until: float | None = None,
        before: Artifact | None = None,
    ) -> Steps[Artifact]:
        """Ask for a model of a scale.

        Args:
            ready: The preparation.
            teacher: The model that it is trained towards.
            start: The model that it is cut from.
            scale: Its scale.
            budget_flops: See ``Distil``.
            extra: See ``Distil``.
            form: See ``Distil``.
            kept: Whether a budget buys the teacher's outputs on all training rows, however small it is.
            until: See ``Distil``.
            before: See ``Distil``.

        Returns:
            The model's artifact.
        """
        config = self._distillation
        epochs = config.epochs
        if budget_flops is not None:
            epochs = 1.0 if kept else budget_flops / self._online_epoch_flops(ready, scale)
        outputs = yield from self._outputs_for(ready, teacher, epochs)
        return (
            yield Distil(
                data=ready.data,
                importance=ready.importance,
                teacher=teacher,
                outputs=outputs,
                start=start,
                scale=scale,
                config=config,
                seed=self.seed,
                budget_flops=budget_flops,
                extra=extra,
                form=form,
                until=until,
                before=before,
            )
        )

    def distil_within(
        self,
        ready: Ready,
        start: Model,
        flops: float,
        paid: Sequence[Artifact] = (),
        teacher: Model | None = None,
        until: float | None = None,
        before: Artifact | None = None,
    ) -> Steps[Artifact]:
        """Ask for the student, distilled for what is left of a search's FLOPs.

        Args:
            ready: The preparation.
            start: The model that it is cut from.
            flops: What the whole search may cost, importance left out.
            paid: The initial model and what it was made from. If the teacher's outputs are among them, a student of the
                teacher learns from them.
            teacher: The model that it is trained towards; the teacher itself by default.
            until: See ``Distil``.
            before: See ``Distil``.
        """
        by_teacher = teacher is None or teacher == ready.teacher
        outputs = [artifact for artifact in paid if by_teacher and artifact.kind == TeacherOutputs.kind]
        left, kept = flops - sum(artifact.flops for artifact in paid if artifact not in outputs), bool(outputs)
        return (
            yield from self.distil(
                ready, teacher or ready.teacher, start, self.student_scale, left, kept=kept, until=until, before=before
            )
        )

    def extract(self, ready: Ready, supernet: Artifact) -> Steps[Artifact]:
        """Ask for the student as a supernet has it, without further training."""
        return (yield Extract(ready.data, ready.importance, supernet, self.student_scale))

    def with_distillation(self, config: DistillationConfig) -> "Search":
        """Return the search with another section ``distillation``."""
        return replace(self, experiment=self.experiment.model_copy(update={"distillation": config}))

    def with_once_for_all(self, **changes: Any) -> "Search":
        """Return the search with other settings of ``once_for_all``."""
        section = self.experiment.once_for_all.model_copy(update=changes)
        return replace(self, experiment=self.experiment.model_copy(update={"once_for_all": section}))

    def saved(self, supernet: Artifact, scale: float) -> Budget:
        """Return the FLOPs that a supernet has saved where an assistant of a scale would have been distilled alone."""
        return Saved(Model(supernet, scale))

    def place_of_outputs(self, data: Artifact) -> str:
        """Return where the outputs of models are kept: in ``memory``, on ``disk`` or nowhere (``online``).

        The sizes of the tokenised task and the settings alone decide, so that all trials of a run come to the same.

        Raises:
            InputError: They do not fit where they are to be kept.
            NotYetKnown: The task has not been tokenised.
        """
        config = config_from_dict(self.subject.config)
        shape = outputs_shape(data, self._matched, config, self._distillation.top_tokens, self._inner)
        return kept_in(self.experiment.teacher_outputs, shape)

    def outputs_of(self, ready: Ready, teacher: Model) -> Steps[Artifact | None]:
        """Ask for a model's outputs on all training rows; None where it is to be run in every step."""
        if self.place_of_outputs(ready.data) == "online":
            return None
        # the teacher as it was made computes the same as the sorted one, whatever the importance
        model = Model(ready.finetuned) if teacher == ready.teacher else teacher
        distillation = self._distillation
        temperature = distillation.temperature if self._task_kind.over_vocabulary else 1.0
        dtype = self.experiment.teacher_outputs.dtype if self._matched or self._inner else None
        wanted = (dtype, distillation.top_tokens, self._inner, temperature)
        return (yield TeacherOutputs(ready.data, model, self._matched, *wanted))

    def _outputs_for(self, ready: Ready, teacher: Model, epochs: float) -> Steps[Artifact | None]:
        """Ask for a model's outputs; None for less than one epoch, where the model is run for the rows wanted."""
        return None if epochs < 1 else (yield from self.outputs_of(ready, teacher))

    def _online_epoch_flops(self, ready: Ready, scale: float) -> float:
        """Return about how many FLOPs a student's epoch takes with the teacher run in every step."""
        config = config_from_dict(self.subject.config)
        multiplied = 2.0 * prunable_parameters(config, Widths.full(config))
        return multiplied * TaskFacts.of(ready.data).tokens["train"] * (1.0 + STEP_FORWARDS * scale)

    def _once_for_all(self, data: Artifact) -> OnceForAllConfig:
        """Return the section; its evaluations are said to be on all rows unless one is on fewer."""
        config = self.experiment.once_for_all
        rows = config.evaluation_rows
        last_alone = config.evaluations == 1 and config.keep == "last" and config.patience is None
        all_at_the_end = config.choose_at == 1 and last_alone
        if rows is None or (rows < TaskFacts.of(data).rows["validation"] and not all_at_the_end):
            return config
        return config.model_copy(update={"evaluation_rows": None})

    @property
    def _task_kind(self) -> TaskKind:
        return task_kind(metric(self.subject.metric).kind)

    @property
    def _distillation(self) -> DistillationConfig:
        """The section, without what this search never reads of it."""
        return settled(self.experiment.distillation, self._task_kind)

    @property
    def _inner(self) -> tuple[str, ...]:
        """The signals from inside the teacher that are compared."""
        return inner_of(Objective.of(self._distillation))

    @property
    def _matched(self) -> tuple[int, ...]:
        """The positions of the teacher whose hidden states are compared."""
        return positions(Objective.of(self._distillation), self.subject.num_layers)[1]
