"""The trials of an experiment: one schedule with one set of choices each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from raydisc.config.experiment import (
    Experiment,
    KdOptions,
    MaxidiscOptions,
    MinidiscOptions,
    ScheduleOptions,
    TakdOptions,
)
from raydisc.errors import InputError
from raydisc.schedules.controls import kd_equal_compute, kd_supernet_init
from raydisc.schedules.kd import along
from raydisc.schedules.minidisc import minidisc
from raydisc.schedules.search import Outcome, Schedule, Search
from raydisc.stages.problem import Subject

CONTROLS = ("kd_equal_compute", "kd_supernet_init")


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        schedule: its name, or a control's.
        student_scale: the scale wanted.
        seed: of batches, dropout and the sandwich.
        path: scales of the assistants in order where the trial is given them.
        lam: λ of MiniDisc and of its controls.
        assistants: how many MiniDisc chooses.
        reinvest: whether MiniDisc's student is trained for what once-for-all saved.
    """

    schedule: str
    student_scale: float
    seed: int
    path: tuple[float, ...] = ()
    lam: float | None = None
    assistants: int = 1
    reinvest: bool = True

    @property
    def name(self) -> str:
        """A name that is one word, unique within an experiment and fit for a folder."""
        path = "".join(f"-via-{scale:.15g}" for scale in self.path)
        choice = "" if self.lam is None else f"-lam-{self.lam:.15g}"
        several = f"-assistants-{self.assistants}" if self.assistants > 1 else ""
        saved = "" if self.reinvest else "-not-reinvested"
        return f"{self.schedule}{path}{choice}{several}{saved}-to-{self.student_scale:.15g}-seed-{self.seed}"

    def run(self, experiment: Experiment, subject: Subject) -> Schedule[Outcome]:
        """The trial's schedule, ready to ask for its first stage."""
        search = Search(experiment, subject, self.student_scale, self.seed)
        lam = self.lam or 0.0
        if self.schedule == "minidisc":
            return minidisc(search, lam, self.assistants, self.reinvest)
        if self.schedule == "kd_equal_compute":
            return kd_equal_compute(search, lam, self.assistants, self.reinvest)
        if self.schedule == "kd_supernet_init":
            return kd_supernet_init(search, lam, self.assistants)
        return along(search, self.path)


def expand(experiment: Experiment, student_scales: Sequence[float]) -> list[Trial]:
    """All trials of an experiment, schedules before their controls.

    Raises:
        InputError: a schedule without a candidate between teacher and student.
    """
    trials = [
        trial
        for seed in experiment.seeds
        for student_scale in student_scales
        for schedule in experiment.schedules
        for trial in _of_schedule(schedule.name, schedule.options, experiment, student_scale, seed)
    ]
    return [*trials, *_controls(trials, experiment)] if experiment.controls else trials


def _of_schedule(
    name: str, options: ScheduleOptions, experiment: Experiment, student_scale: float, seed: int
) -> Iterator[Trial]:
    above = [scale for scale in experiment.grid.scales if scale > student_scale]
    match options:
        case KdOptions():
            yield Trial(name, student_scale, seed)
        case TakdOptions():
            if options.path[-1] <= student_scale:
                raise InputError(
                    f"schedules: the takd path {options.path} must stay above the student's scale {student_scale:g}"
                )
            yield Trial(name, student_scale, seed, path=tuple(options.path))
        case MaxidiscOptions():
            _refuse_too_few(above, options.assistants, name, student_scale)
            for path in combinations(above, options.assistants):
                yield Trial(name, student_scale, seed, path=path)
        case MinidiscOptions():
            _refuse_too_few(above, options.assistants, name, student_scale)
            yield Trial(name, student_scale, seed, **options.model_dump())


def _refuse_too_few(above: Sequence[float], assistants: int, name: str, student_scale: float) -> None:
    if len(above) < assistants:
        raise InputError(
            f"grid.scales has {len(above)} above the student's scale {student_scale:g}, "
            f"but {name} needs at least {assistants} for its assistants"
        )


def _controls(trials: Sequence[Trial], experiment: Experiment) -> list[Trial]:
    """Equal compute for every MiniDisc; equal first weights once for each supernet, unless KD has them anyway."""
    rivals = [trial for trial in trials if trial.schedule == "minidisc"]
    config = experiment.once_for_all

    def supernet(rival: Trial) -> tuple[object, ...]:
        one = rival.assistants == 1
        half, early = config.candidates == "smaller_half", config.choose_at < 1
        return rival.seed, rival.student_scale, one and half, rival.lam if one and early else None

    supernets = {supernet(rival): rival for rival in reversed(rivals)}
    if experiment.distillation.initialisation == "teacher":
        supernets = {}
    return [
        *(replace(rival, schedule="kd_equal_compute") for rival in rivals),
        *(replace(rival, schedule="kd_supernet_init") for rival in reversed(supernets.values())),
    ]
