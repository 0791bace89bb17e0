"""The experiment that a user asks for, validated as a whole.

Read it from a file with ``load_experiment``, or build it in Python with ``Experiment(...)``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, TypeAdapter, ValidationError, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from raydisc.config.sections import (
    BudgetConfig,
    DistillationConfig,
    FineTuneConfig,
    GridConfig,
    Lam,
    OnceForAllConfig,
    ResourcesConfig,
    ReviewsConfig,
    Scale,
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
from raydisc.registry import nearest
from raydisc.storage.masking import has_credentials

__all__ = [
    "ALTERNATIVES",
    "RESERVED_NAMES",
    "SCHEDULES",
    "BudgetConfig",
    "DistillationConfig",
    "Experiment",
    "FineTuneConfig",
    "GridConfig",
    "KdOptions",
    "MaxidiscOptions",
    "MinidiscOptions",
    "OnceForAllConfig",
    "ResourcesConfig",
    "ReviewsConfig",
    "ScheduleConfig",
    "ScheduleOptions",
    "StudentConfig",
    "TakdOptions",
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


class ScheduleOptions(Section):
    """Options of one schedule; the base has none."""


class KdOptions(ScheduleOptions):
    """`kd`: teacher → student, no assistant."""


class TakdOptions(ScheduleOptions):
    """`takd`: teacher → the given assistants → student."""

    path: Annotated[list[Scale], Field(strict=False, min_length=1)]
    """Scales of the assistants in order, each below the one before."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if any(later >= earlier for earlier, later in zip(self.path, self.path[1:], strict=False)):
            raise ValueError(f"the path {self.path} must fall from each assistant to the next")
        return self


class MaxidiscOptions(ScheduleOptions):
    """`maxidisc`: every path of the grid, each a trial of its own."""

    assistants: Annotated[int, Field(ge=1, le=2)] = 1
    """Assistants on each path."""


class MinidiscOptions(ScheduleOptions):
    """`minidisc`: one trial; the assistant is chosen by the λ-tradeoff in the supernet."""

    lam: Lam = 0.2
    """λ of the tradeoff `m + λ(1 - s)`."""
    assistants: Annotated[int, Field(ge=1, le=3)] = 1
    """How many assistants are chosen, one after the other."""
    reinvest: bool = True
    """Train the student longer, until the search has cost what the grid's cheapest path would have cost alone; one
    assistant only."""


SCHEDULES: dict[str, type[ScheduleOptions]] = {
    "kd": KdOptions,
    "takd": TakdOptions,
    "maxidisc": MaxidiscOptions,
    "minidisc": MinidiscOptions,
}
"""The schedules that an experiment may name, with their options."""


class ScheduleConfig(Section):
    """One schedule of the experiment; written `kd`, or `{minidisc: {lam: 0.2}}` with options."""

    name: str
    """A name of `SCHEDULES`."""
    options: SerializeAsAny[ScheduleOptions]
    """The schedule's own options."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            options: Any
            name, options = data, {}
        elif isinstance(data, Mapping) and "name" in data and set(data) <= {"name", "options"}:
            name, options = data["name"], data.get("options", {})
        elif isinstance(data, Mapping) and len(data) == 1:
            [(name, options)] = data.items()
        else:
            raise PydanticCustomError("schedule", "Input should be a schedule's name, or one name with its options")
        if not isinstance(name, str) or name not in SCHEDULES:
            context = {"key": str(name)[:60], "hint": nearest(str(name), SCHEDULES)}
            raise PydanticCustomError("unknown_schedule", "unknown schedule '{key}'{hint}", context)
        if isinstance(options, SCHEDULES[name]):
            return {"name": name, "options": options}
        return {"name": name, "options": SCHEDULES[name].model_validate(options or {})}

    @model_serializer
    def _written(self) -> str | dict[str, Any]:
        options = self.options.model_dump(mode="json")
        return {self.name: options} if options else self.name


class Experiment(Section):
    """One experiment: a task, a teacher, the sizes wanted, and the schedules to compare.

    Example:
        >>> experiment = Experiment(
        ...     task=TaskConfig(reviews=ReviewsConfig()),
        ...     teacher=TeacherConfig(model="my-teacher"),
        ...     student=StudentConfig(scale=[0.1]),
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
    schedules: Annotated[list[ScheduleConfig], Field(strict=False, min_length=1)] = [
        ScheduleConfig(name="kd", options=KdOptions()),
        ScheduleConfig(name="maxidisc", options=MaxidiscOptions()),
        ScheduleConfig(name="minidisc", options=MinidiscOptions()),
    ]
    """The schedules to compare."""
    controls: bool = True
    """Also run the controls that a verdict needs: KD with minidisc's compute, and KD from the supernet's weights."""
    once_for_all: OnceForAllConfig = OnceForAllConfig()
    """The training of the supernet."""
    distillation: DistillationConfig = DistillationConfig()
    """The training of assistants and students."""
    teacher_outputs: TeacherOutputsConfig = TeacherOutputsConfig()
    """The source of teacher outputs: kept or computed in every step."""
    seeds: Annotated[list[Seed], Field(strict=False, min_length=1)] = [0]
    """Seeds; every schedule runs once with each, and all share one teacher."""
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
            self._assistants_exist(schedule)
        return self

    def _assistants_exist(self, schedule: ScheduleConfig) -> None:
        """Refuse a schedule without room for its assistants; scales of sizes in parameters are known only later."""
        options = schedule.options
        for student in self.student.scale or []:
            if isinstance(options, TakdOptions) and options.path[-1] <= student:
                raise ValueError(f"the takd path {options.path} must stay above the student's scale {student:g}")
            if isinstance(options, MaxidiscOptions | MinidiscOptions):
                above = [scale for scale in self.grid.scales if scale > student]
                if len(above) < options.assistants:
                    raise ValueError(
                        f"grid.scales has {len(above)} above the student's scale {student:g}, "
                        f"but {schedule.name} needs at least {options.assistants} for its assistants"
                    )

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

    Raises:
        InputError: The file or an override is wrong; the sentence says what, where and what would be right.
    """
    path = Path(path)
    data = apply_overrides({"name": path.stem} | read_yaml(path), overrides, ALTERNATIVES)
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, data)}") from error
