"""The schedules that an experiment may name, with their options.

Schedules lie in a folder above this one, and in other packages. They are known here by name only, and are imported
when an experiment names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import SerializeAsAny, TypeAdapter, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from raydisc.config.sections import Section
from raydisc.registry import Registry


class ScheduleOptions(Section):
    """The options of one schedule; the base class is for schedules without options.

    Example:
        >>> class SteppedOptions(ScheduleOptions):
        ...     assistants: int = 1
        >>> SteppedOptions.model_validate({"assistants": 2})
        SteppedOptions(assistants=2)
    """


class NamedSchedule(Protocol):
    """The part of a schedule that an experiment needs; the whole is ``raydisc.schedules.base.Schedule``."""

    name: ClassVar[str]
    Options: ClassVar[type[ScheduleOptions]]
    by_default: ClassVar[bool]
    is_control: ClassVar[bool]

    def __init__(self, options: Any) -> None:
        """Take the schedule's options."""

    def refusal(self, scales: Sequence[float], student_scale: float) -> str | None:
        """Return a sentence on why the schedule cannot work on a grid, or None where it can."""


SCHEDULES: Registry[type[NamedSchedule]] = Registry(
    "raydisc.schedules",
    "schedule",
    "raydisc.schedules.base:Schedule",
    shipped={
        "kd": "raydisc.schedules.kd:Kd",
        "takd": "raydisc.schedules.takd:Takd",
        "maxidisc": "raydisc.schedules.maxidisc:Maxidisc",
        "minidisc": "raydisc.schedules.minidisc:Minidisc",
        "minidisc_paper": "raydisc.schedules.minidisc_paper:MinidiscPaper",
        "autodisc": "raydisc.schedules.autodisc:Autodisc",
        "optuna": "raydisc.schedules.optuna:Optuna",
        "recommend": "raydisc.schedules.recommend:Recommend",
        "kd_equal_compute": "raydisc.schedules.controls:KdEqualCompute",
        "kd_equal_seconds": "raydisc.schedules.controls:KdEqualSeconds",
        "kd_from_supernet": "raydisc.schedules.controls:KdFromSupernet",
        "kd_from_assistant": "raydisc.schedules.controls:KdFromAssistant",
        "takd_smallest": "raydisc.schedules.controls:TakdSmallest",
        "takd_middle": "raydisc.schedules.controls:TakdMiddle",
    },
)
"""All schedules and controls by name."""


def options_by_name() -> dict[str, type[ScheduleOptions]]:
    """Return the options of every schedule that an experiment may name, by its name."""
    return {schedule.name: schedule.Options for schedule in SCHEDULES if not schedule.is_control}


def checked_controls(names: bool | list[str]) -> bool | list[str]:
    """Return the setting for controls after checking that every name in a list is that of a control."""
    for name in names if isinstance(names, list) else ():
        if name not in SCHEDULES or not SCHEDULES.get(name).is_control:
            controls = [schedule.name for schedule in SCHEDULES if schedule.is_control]
            context = {"key": name[:60], "hint": SCHEDULES.hint(name, controls)}
            raise PydanticCustomError("unknown_control", "unknown control '{key}'{hint}", context)
    return names


class ScheduleConfig(Section):
    """One schedule of the experiment; written ``kd``, or ``{minidisc: {lam: 0.2}}`` with options."""

    name: str
    """The schedule's name."""
    options: SerializeAsAny[ScheduleOptions]
    """The schedule's own options."""

    def schedule(self) -> NamedSchedule:
        """Return the schedule with its options."""
        return SCHEDULES.get(self.name)(self.options)

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
        if not isinstance(name, str) or name not in SCHEDULES or SCHEDULES.get(name).is_control:
            context = {"key": str(name)[:60], "hint": SCHEDULES.hint(str(name), options_by_name())}
            raise PydanticCustomError("unknown_schedule", "unknown schedule '{key}'{hint}", context)
        wanted = SCHEDULES.get(name).Options
        if isinstance(options, ScheduleOptions):
            if type(options) is not wanted:
                raise PydanticCustomError("schedule", "Input should have the options of '{name}'", {"name": name})
            return {"name": name, "options": options}
        # an error names the option's place as it is written: `schedules[0].takd.path`
        key = "options" if isinstance(data, Mapping) and "name" in data else name
        return {"name": name, "options": TypeAdapter(dict[str, wanted]).validate_python({key: options or {}})[key]}  # type: ignore[valid-type]

    @model_serializer
    def _written(self) -> str | dict[str, Any]:
        fields = type(self.options).model_fields
        written = self.options.model_dump(mode="json")
        options = {
            name: value for name, value in written.items() if value is not None or fields[name].default is not None
        }
        return {self.name: options} if options else self.name


def default_schedules() -> list[ScheduleConfig]:
    """Return the schedules of an experiment that names none."""
    return [
        ScheduleConfig(name=schedule.name, options=schedule.Options()) for schedule in SCHEDULES if schedule.by_default
    ]
