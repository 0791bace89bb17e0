"""The experiment that a user asks for, validated as a whole.

Read it from a file with ``load_experiment``, or build it in Python with ``Experiment(...)``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from raydisc.config.resources import BudgetConfig, ResourcesConfig
from raydisc.config.schedules import ScheduleConfig, checked_controls, default_schedules
from raydisc.config.sections import (
    DistillationConfig,
    FineTuneConfig,
    GridConfig,
    OnceForAllConfig,
    ReviewsConfig,
    Section,
    Seed,
    StudentConfig,
    TaskConfig,
    TeacherConfig,
    TeacherOutputsConfig,
    TrainingConfig,
)
from raydisc.config.yaml_file import apply_overrides, dump_yaml, expecting, explain, read_yaml
from raydisc.errors import InputError
from raydisc.storage.masking import has_credentials

__all__ = [
    "ALTERNATIVES",
    "RESERVED_NAMES",
    "BudgetConfig",
    "DistillationConfig",
    "Experiment",
    "FineTuneConfig",
    "GridConfig",
    "OnceForAllConfig",
    "ResourcesConfig",
    "ReviewsConfig",
    "ScheduleConfig",
    "StudentConfig",
    "TaskConfig",
    "TeacherConfig",
    "TeacherOutputsConfig",
    "TrainingConfig",
    "checked_run_name",
    "load_experiment",
]

RESERVED_NAMES = ("artifacts", "ledger", "locks")
"""Folders of the storage that all runs share; no run can have one of these names."""

_A_NAME = "at most 100 letters, digits, '.', '_' and '-', the first a letter or digit"

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100), expecting(_A_NAME)]
"""The name of a run and of its folder."""

_NOT_OF_RESULTS: Any = dict.fromkeys(("name", "storage", "altered_artifacts", "budget"), True) | {
    "resources": {"trials", "stall_minutes", "wait_minutes", "checkpoint_every_s"}
}
"""Settings that no result depends on."""

ALTERNATIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "task": (("train", "validation", "test", "text", "label", "classes", "metric"), ("glue",), ("reviews",)),
    "teacher": (("model",), ("architecture", "tokenizer")),
    "student": (("scale",), ("parameters",)),
}
"""The keys of each alternative, by section; overriding one alternative removes the others."""


def _with_default(schema: dict[str, Any]) -> None:
    """Add the default of ``schedules`` to its JSON schema, which leaves out what a function makes."""
    schema["default"] = [schedule.model_dump(mode="json") for schedule in default_schedules()]


class Experiment(Section):
    """One experiment: a task, a teacher, the sizes wanted, and the schedules to compare.

    Example:
        >>> experiment = Experiment.model_validate(
        ...     {"task": {"reviews": {}}, "teacher": {"model": "my-teacher"}, "student": {"scale": 0.1}}
        ... )
        >>> experiment.grid.scales[0]
        0.9
    """

    name: RunName = "experiment"
    """The name of the run and of its folder in the storage; by default the name of the experiment file."""
    task: TaskConfig
    """The task that the models learn."""
    teacher: TeacherConfig
    """The model to compress."""
    grid: GridConfig = GridConfig()
    """The candidates of the search."""
    student: StudentConfig
    """The size of the student."""
    schedules: Annotated[
        list[ScheduleConfig],
        Field(strict=False, min_length=1, default_factory=default_schedules, json_schema_extra=_with_default),
    ]
    """The schedules to compare."""
    controls: Annotated[
        bool | list[str], expecting("true, false or a list of controls"), AfterValidator(checked_controls)
    ] = True
    """Also run the controls that the schedules ask for, all of them or those in a list; a verdict needs them."""
    once_for_all: OnceForAllConfig = OnceForAllConfig()
    """The training of the supernet."""
    distillation: DistillationConfig = DistillationConfig()
    """The training of assistants and students."""
    teacher_outputs: TeacherOutputsConfig = TeacherOutputsConfig()
    """The source of teacher outputs: kept or computed in every step."""
    seeds: Annotated[list[Seed], Field(strict=False, min_length=1)] = [0]
    """Seeds; every schedule runs once with each, by each of the teachers (``teacher.seeds``)."""
    resources: ResourcesConfig = ResourcesConfig()
    """The machines, devices and workers of the trials."""
    budget: BudgetConfig = BudgetConfig()
    """The limits at which the run stops; it continues with a larger budget."""
    storage: Annotated[str, Field(min_length=1)] = "runs"
    """The folder of all runs, their shared artifacts and their ledger, or an address such as ``s3://BUCKET/FOLDER``."""
    altered_artifacts: Literal["recompute", "refuse"] = "recompute"
    """The reaction to a stored file that is not as it was written: its stage is computed again, or the trial fails."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"a run cannot be named '{self.name}': the storage has a folder of that name")
        if has_credentials(self.storage):
            raise ValueError(
                "storage is an address with a password or a key in it, which every file of the run would show; leave "
                "it out and set it in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            )
        if self.teacher.architecture and not self.teacher.tokenizer and self.task.reviews is None:
            raise ValueError("teacher.architecture needs teacher.tokenizer: only task.reviews brings a vocabulary")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names a seed twice: {self.seeds}")
        asked = [schedule.model_dump_json() for schedule in self.schedules]
        if len(set(asked)) < len(asked):
            raise ValueError("schedules names one schedule twice with the same options")
        for schedule in self.schedules:
            self._fits_grid(schedule)
        return self

    def _fits_grid(self, schedule: ScheduleConfig) -> None:
        """Refuse a schedule for which the grid has no room; scales of sizes in parameters are known only later."""
        for student in self.student.scale or []:
            if refusal := schedule.schedule().refusal(self.grid.scales, student):
                raise ValueError(refusal)

    @property
    def teachers(self) -> tuple[int | None, ...]:
        """The seed of every teacher, as trials name it; None for a teacher that is the only one."""
        seeds = self.teacher.all_seeds
        return seeds if len(seeds) > 1 else (None,)

    def with_one_teacher(self, teacher_seed: int | None) -> Self:
        """Return the experiment of one of its teachers.

        Args:
            teacher_seed: The teacher's seed; None for a teacher that is the only one.

        Raises:
            InputError: The experiment has no such teacher.
        """
        if teacher_seed not in self.teachers:
            known = ", ".join(map(str, self.teacher.all_seeds))
            raise InputError(f"teacher_seed is {teacher_seed}, but should be one of teacher.seeds ({known})")
        seed = self.teacher.all_seeds[0] if teacher_seed is None else teacher_seed
        teacher = self.teacher.model_copy(update={"seed": seed, "seeds": None})
        return self.model_copy(update={"teacher": teacher})

    def notices(self) -> list[str]:
        """Return sentences about settings that were not used as they were written."""
        notices = [self.grid.reordered] if self.grid.reordered else []
        if self.student.scale:
            smallest = min(self.student.scale)
            unused = [f"{scale:g}" for scale in self.grid.scales if scale < smallest]
            if unused:
                left_out = ", ".join(unused)
                notices.append(f"grid.scales: {left_out} left out, below the smallest student's scale {smallest:g}")
        return notices

    def with_absolute_paths(self) -> Self:
        """Return the same experiment with absolute paths for the files and folders that exist here.

        It can then be resumed from another folder, and trials on other nodes find the files that it names.
        """
        task = self.task.model_copy(update=_absolute(self.task, ("train", "validation", "test")))
        teacher = self.teacher.model_copy(update=_absolute(self.teacher, ("model", "tokenizer")))
        return self.model_copy(update={"task": task, "teacher": teacher})

    def to_yaml(self) -> str:
        """Return the resolved experiment, with its defaults, as YAML that ``load_experiment`` reads back equal."""
        return dump_yaml(_written(self, self.model_dump(mode="json")))

    def fingerprint(self) -> str:
        """Return the hexadecimal SHA-256 of all settings that can change a result."""
        settings = self.model_dump(mode="json", exclude=_NOT_OF_RESULTS)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _written(section: Section, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those that are null by default; a null that differs from the default remains."""
    defaults = {name: field.default for name, field in type(section).model_fields.items()}
    return {
        name: _written(getattr(section, name), value) if isinstance(getattr(section, name), Section) else value
        for name, value in values.items()
        if value is not None or defaults[name] is not None
    }


def _absolute(section: Section, keys: Sequence[str]) -> dict[str, str]:
    named = {key: Path(value).expanduser() for key in keys if (value := getattr(section, key)) is not None}
    return {key: str(path.absolute()) for key, path in named.items() if path.exists()}


def checked_run_name(name: str) -> str:
    """Return the name of a run after checking that a run can have it.

    Raises:
        InputError: No run can have this name; it may be the path of a folder elsewhere.
    """
    try:
        return TypeAdapter(RunName).validate_python(name)
    except ValidationError as error:
        raise InputError(f"a run's name is {name[:200]!r}, but should be {_A_NAME}") from error


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file.

    Args:
        path: A YAML file. Its stem is the name of the experiment unless the file gives one.
        overrides: Texts of the form ``a.b=value``, as given to ``--set``.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mine.yaml"
        ...     _ = path.write_text("{task: {reviews: {}}, teacher: {model: my-teacher}, student: {scale: 0.1}}")
        ...     experiment = load_experiment(path, ["student.scale=0.2"])
        >>> experiment.name, experiment.student.scale
        ('mine', [0.2])

    Raises:
        InputError: The file or an override is wrong; the sentence says what, where and what would be right.
    """
    path = Path(path)
    data = apply_overrides({"name": path.stem} | read_yaml(path), overrides, ALTERNATIVES)
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, data)}") from error
