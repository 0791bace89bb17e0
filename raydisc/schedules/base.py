"""The base class of schedules: ways to get from the teacher to the student.

A schedule is one class in one file. It says what options it has, which trials it makes of a grid, which stages a trial
asks for and in which order, and how people see it. It knows neither Ray nor devices nor files; to import one takes
neither Ray nor torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleOptions
from raydisc.config.stopping import StoppingConfig
from raydisc.schedules.naming import settings_worded, worded
from raydisc.schedules.rungs import Rung
from raydisc.schedules.steps import Outcome, Steps, closure, scales_above
from raydisc.stages.artifact import Artifact

if TYPE_CHECKING:
    from raydisc.schedules.search import Search

OptionsT = TypeVar("OptionsT", bound=ScheduleOptions)

Price = Callable[["Trial"], Sequence[Sequence[Artifact]]]
"""Foresees the stages of a trial that its search is charged for, the student last, for each way of its choices."""

_LAST = 100


@dataclass(frozen=True)
class Mark:
    """The colour and the marker of a schedule in figures.

    Attributes:
        colour: A colour that matplotlib knows.
        marker: A marker that matplotlib knows.

    Example:
        >>> from raydisc.schedules import SCHEDULES
        >>> SCHEDULES.get("kd").mark
        Mark(colour='#666666', marker='o')
    """

    colour: str = "black"
    marker: str = "x"


@dataclass(frozen=True)
class Choice:
    """One way in which the choices of a schedule may fall.

    Attributes:
        path: The scales of the assistants that are chosen, in order.
        metrics: Pairs of a candidate's scale and a metric with which this choice is made; 0 for scales left out.

    Example:
        >>> from raydisc.schedules import SCHEDULES
        >>> minidisc = SCHEDULES.get("minidisc")
        >>> schedule = minidisc(minidisc.Options(assistants=1))
        >>> [choice.path for choice in schedule.choices((0.9, 0.5, 0.1))]
        [(0.9,), (0.5,)]
    """

    path: tuple[float, ...] = ()
    metrics: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Schedule(ABC, Generic[OptionsT]):
    """A way to get from the teacher to the student, with its options.

    Subclass it, set ``name``, write ``run``, and register the class with ``raydisc.schedules.SCHEDULES``; experiment
    files may then name it. ``raydisc.testing.schedules`` has the tests that every schedule must pass.

    Attributes:
        name: The name in experiment files, in the ledger and in folders: lower-case letters, digits and underscores.
        Options: The options that an experiment file may give.
        title: The name in running text.
        mark: How it is drawn in figures.
        place: Its place in tables: rows are sorted by this number, then by name.
        by_default: Whether an experiment that names no schedules runs it.
        compared: Whether ``raydisc plan`` shows it beside the schedules of an experiment that does not name it.
        measured_against: Whether reports measure the other schedules against it.
        exhaustive: Whether its trials are all paths of the grid, so that the best one is the oracle path.
        is_control: Whether it stands beside other schedules only, and no experiment file may name it.
        timed: Whether its stages depend on measured seconds, so that no plan foresees them to the last FLOP.
        source: Where the source of its trials is (``package.module:NAME``), if they are proposed as results come; see
            ``raydisc.runs.sources``. Empty where ``trials`` makes them all.
        fronts: Whether reports show which of its trials are on the front of metric and FLOPs.
        controls: The controls that stand beside each of its trials.
        options: The options of this instance.

    Example:
        >>> class Straight(Schedule[ScheduleOptions]):
        ...     '''Distil the student from the teacher.'''
        ...     name = "straight"
        ...     def run(self, search):
        ...         ready = yield from search.prepare()
        ...         student = yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale)
        ...         return Outcome(student)
        >>> [trial.name for trial in Straight(ScheduleOptions()).trials((0.9, 0.5), student_scale=0.1, seed=0)]
        ['straight-to-0.1-seed-0']
    """

    name: ClassVar[str]
    Options: ClassVar[type[ScheduleOptions]] = ScheduleOptions
    title: ClassVar[str] = ""
    mark: ClassVar[Mark] = Mark()
    place: ClassVar[int] = _LAST
    by_default: ClassVar[bool] = False
    compared: ClassVar[bool] = False
    measured_against: ClassVar[bool] = False
    exhaustive: ClassVar[bool] = False
    is_control: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    source: ClassVar[str] = ""
    fronts: ClassVar[bool] = False
    controls: ClassVar[tuple[type[Control], ...]] = ()

    options: OptionsT

    @abstractmethod
    def run(self, search: Search) -> Steps[Outcome]:
        """Ask for the stages of one trial, from the task and the teacher to the student.

        Args:
            search: The experiment, the student's scale and the seed of the trial, and the stages that it may ask for.
        """

    def trials(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make the schedule's trials for one student and one seed; one trial unless a subclass says otherwise.

        Args:
            above: The scales of the grid above the student's, descending.
            student_scale: The student's scale.
            seed: The seed of batches, dropout and the sandwich.
        """
        yield Trial(self, student_scale, seed)

    def examples(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make trials between which the cost of each one lies, for ``raydisc plan``: all of them, where they are known.

        Args:
            above: See ``trials``.
            student_scale: See ``trials``.
            seed: See ``trials``.
        """
        yield from self.trials(above, student_scale, seed)

    def foreseen(
        self, experiment: Experiment, above: Sequence[float], student_scale: float, seed: int, price: Price
    ) -> Iterator[Trial]:
        """Make the examples, where these follow from what trials of the experiment cost; see ``trials``."""
        yield from self.examples(above, student_scale, seed)

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return every way in which the choices of a trial may fall, for ``raydisc plan``.

        Args:
            scales: The scales of the supernet that the trial asks for, descending; the last is the student's own.
        """
        return (Choice(),)

    def refusal(self, scales: Sequence[float], student_scale: float) -> str | None:
        """Return a sentence on why the schedule cannot work on a grid, or None where it can.

        Args:
            scales: The scales of the grid.
            student_scale: The student's scale.
        """
        above = scales_above(scales, student_scale)
        if len(above) >= self.assistants:
            return None
        return (
            f"grid.scales has {len(above)} above the student's scale {student_scale:g}, "
            f"but {self.name} needs at least {self.assistants} for its assistants"
        )

    @property
    def assistants(self) -> int:
        """The number of assistants that a trial takes from the grid."""
        return 0

    @property
    def lam(self) -> float | None:
        """λ of the tradeoff that the schedule chooses by; None where it chooses nothing."""
        return None

    @property
    def most(self) -> int:
        """The most trials that its source proposes for one student and one seed; 0 where it has no source."""
        return 0

    @property
    def stopping(self) -> StoppingConfig | None:
        """The rule by which its trials are stopped early; None where each runs to its end."""
        return None

    @property
    def rung(self) -> Rung | None:
        """The place of the trial where arms are halved on rungs; None where they are not."""
        return None

    @property
    def label(self) -> str:
        """The name with the options that differ from their defaults, fit for a folder's name.

        Reports take rows with the same label for those of one schedule, so that all its trials have the same.
        """
        fields = type(self.options).model_fields
        defaults = {option: fields[option].get_default(call_default_factory=True) for option in fields}
        values = {option: getattr(self.options, option) for option in fields}
        changed = [f"-{option}-{worded(value)}" for option, value in values.items() if value != defaults[option]]
        return self.name + "".join(changed)

    @property
    def stem(self) -> str:
        """The beginning of its trials' names; the label unless a subclass says otherwise."""
        return self.label

    @classmethod
    def beside(cls, others: Sequence[Schedule[Any]]) -> Schedule[Any]:
        """Return the schedule with the options that suit a comparison with others; see ``compared``."""
        return cls(cls.Options())  # type: ignore[arg-type]

    def steps(self, search: Search) -> Steps[Outcome]:
        """Do what ``run`` does, and note in its outcome which of the stages the student depends on."""
        asked: dict[str, Artifact] = {}
        prepared: set[str] = set()
        steps = self.run(search)
        try:
            request = next(steps)
            while True:
                artifact = yield request
                asked.setdefault(artifact.key, artifact)
                if request.prepares:
                    prepared.add(artifact.key)
                request = steps.send(artifact)
        except StopIteration as end:
            outcome: Outcome = end.value
        # a supernet that only decided is paid too, though nothing of it is in the student
        ends = [outcome.student, *([outcome.supernet] if outcome.supernet else [])]
        needed = set().union(*(closure(asked, artifact.key) for artifact in ends)) - prepared
        return replace(outcome, own=tuple(artifact for key, artifact in asked.items() if key in needed))

    def __hash__(self) -> int:
        """Hash by the label, since options may hold lists."""
        return hash(self.label)


def assistants_beside(others: Sequence[Schedule[Any]]) -> int:
    """Return the number of assistants for a comparison with other schedules: that of the first, 2 at most."""
    return min(2, next((other.assistants for other in others if other.assistants), 1))


@dataclass(frozen=True)
class Control(Schedule[ScheduleOptions]):
    """A schedule that stands beside a trial of another one, its rival, so that a difference has one cause.

    Attributes:
        rival: The schedule that it stands beside, whose options it shares.
        needs_rival: Whether it depends on what the rival comes to.

    Example:
        >>> from raydisc.schedules import SCHEDULES
        >>> minidisc = SCHEDULES.get("minidisc")
        >>> rival = minidisc(minidisc.Options(lam=0.4))
        >>> SCHEDULES.get("kd_equal_compute").of(rival).label
        'kd_equal_compute-lam-0.4'
    """

    is_control = True
    needs_rival: ClassVar[bool] = True

    rival: Schedule[Any]

    @classmethod
    def of(cls, rival: Schedule[Any]) -> Control:
        """Return the control that stands beside a schedule."""
        return cls(rival.options, rival)

    def is_needed(self, experiment: Experiment, student_scale: float) -> bool:
        """Whether the experiment has no other trial for this student that does the same."""
        return True

    def stands_for(self, experiment: Experiment, rival: Trial) -> Hashable:
        """Return what the control depends on; of controls with equal values one stands for all of them."""
        return rival.name

    @property
    def lam(self) -> float | None:
        """λ of the rival."""
        return self.rival.lam

    @classmethod
    def label_beside(cls, rival: type[Schedule[Any]], label: str) -> str:
        """Return the label of the control beside a schedule with a label.

        It is the control's own name and the rival's label, whose name is left out where reports measure against it.
        """
        return cls.name + label.removeprefix(rival.name) if rival.measured_against else f"{cls.name}-of-{label}"

    @property
    def label(self) -> str:
        """The control's own name and the rival's label."""
        return self.label_beside(type(self.rival), self.rival.label)

    @property
    def stem(self) -> str:
        """The control's own name and the beginning of the names of the rival's trials."""
        return self.label_beside(type(self.rival), self.rival.stem)

    def choices(self, scales: Sequence[float]) -> Sequence[Choice]:
        """Return the choices that the rival may come to."""
        return self.rival.choices(scales)

    __hash__ = Schedule.__hash__


@dataclass(frozen=True)
class Trial:
    """One trial of a schedule.

    Attributes:
        schedule: The schedule with its options, or a control.
        student_scale: The scale of the student wanted.
        seed: The seed of batches, dropout and the sandwich.
        path: The scales of the assistants in order, where the trial is given them.
        settings: Settings of the experiment that the trial has for itself, by their dotted names, such as
            ``distillation.lr``, in alphabetical order; see ``with_settings``.
        teacher_seed: The seed of its teacher, where the experiment has several teachers; else None.

    Example:
        >>> from raydisc.schedules import SCHEDULES
        >>> kd = SCHEDULES.get("kd")
        >>> trial = Trial(kd(kd.Options()), student_scale=0.1, seed=0)
        >>> trial.name
        'kd-to-0.1-seed-0'
        >>> trial.with_settings({"distillation.lr": 0.0003}).name
        'kd-distillation.lr-0.0003-to-0.1-seed-0'
    """

    schedule: Schedule[Any]
    student_scale: float
    seed: int
    path: tuple[float, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    teacher_seed: int | None = None

    @property
    def name(self) -> str:
        """A name that is one word, unique within an experiment and fit for a folder."""
        path = "".join(f"-via-{scale:.15g}" for scale in self.path)
        settings = settings_worded(self.settings)
        teacher = "" if self.teacher_seed is None else f"-teacher-{self.teacher_seed}"
        return f"{self.schedule.stem}{path}{settings}-to-{self.student_scale:.15g}{teacher}-seed-{self.seed}"

    @property
    def rung(self) -> Rung | None:
        """The place of the trial on a ladder; None where there is none."""
        return self.schedule.rung

    @property
    def leaves_student(self) -> bool:
        """Whether its student is finished, rather than one by which it is decided who goes on."""
        return self.rung is None or self.rung.is_last

    @property
    def replicate(self) -> tuple[int | None, int]:
        """The seed of its teacher and its own, in which trials of one schedule differ only by chance."""
        return self.teacher_seed, self.seed

    def with_settings(self, settings: Mapping[str, Any]) -> Trial:
        """Return the trial with settings of its own, which become a part of its name and of its stages' keys.

        Args:
            settings: The values by the settings' dotted names, of the sections ``once_for_all`` and ``distillation``.
        """
        return replace(self, settings=tuple(sorted({**dict(self.settings), **settings}.items())))

    @property
    def rival(self) -> Trial | None:
        """The trial that a control stands beside; None where the trial is not that of a control."""
        control = self.schedule
        return replace(self, schedule=control.rival) if isinstance(control, Control) else None

    @property
    def waits_for(self) -> Trial | None:
        """The trial on whose result this one depends; None where it depends on no other."""
        return self.rival if isinstance(self.schedule, Control) and self.schedule.needs_rival else None
