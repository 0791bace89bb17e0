"""The space of a search: what a trial of it may be, each by a distribution."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from raydisc.config.sections import Count, Section
from raydisc.config.settings import SETTABLE, may_be_set, settable_names, takes_whole_numbers_alone, with_setting

PATH = "path"
"""The name of the assistants in a space."""

LAM = "lam"
"""The name of λ in a space."""


class RangeConfig(Section):
    """All numbers between two, each as likely as any other."""

    low: float
    """The smallest number."""
    high: float
    """The largest number."""
    log: bool = False
    """Draw the logarithm instead, so that small numbers are as likely as large ones."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"'low' is {self.low:g}, but should be below 'high', which is {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"'low' is {self.low:g}, but has no logarithm; give a number above 0, or leave 'log' out")
        return self


class ChoicesConfig(Section):
    """A few values, each as likely as any other."""

    choices: Annotated[list[JsonValue], Field(strict=False, min_length=1)]
    """The values."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        written = [json.dumps(choice) for choice in self.choices]
        if len(set(written)) < len(written):
            raise ValueError(f"names a value twice: {', '.join(written)}")
        return self


class AssistantsConfig(Section):
    """All falling paths of the grid."""

    assistants: Count
    """Largest number of assistants on a path; a path may also have no assistant."""


def _kind(value: Any) -> str:
    """Return which of the three forms a distribution is written in."""
    given = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    return next((kind for kind in ("choices", "assistants") if kind in given), "range")


DistributionConfig = Annotated[
    Annotated[RangeConfig, Tag("range")]
    | Annotated[ChoicesConfig, Tag("choices")]
    | Annotated[AssistantsConfig, Tag("assistants")],
    Discriminator(_kind),
]
"""A distribution: a range of numbers, a few values, or, for the path, a number of assistants."""


def refusal_of_space(space: Mapping[str, RangeConfig | ChoicesConfig | AssistantsConfig]) -> str | None:
    """Return a sentence on the first entry of a space that no trial may have, or None where all are good.

    Example:
        >>> refusal_of_space({"distillation.lr": RangeConfig(low=0.001, high=0.01, log=True)})
        >>> refusal_of_space({"teacher.seed": ChoicesConfig(choices=[1, 2])})
        "'teacher.seed' is not for a trial to have; name 'path', 'lam' or a setting of once_for_all or distillation"
    """
    return next((sentence for name, one in space.items() if (sentence := _refusal_of(name, one))), None)


def _refusal_of(name: str, one: RangeConfig | ChoicesConfig | AssistantsConfig) -> str | None:
    if name == PATH:
        return _refusal_of_path(one)
    if isinstance(one, AssistantsConfig):
        return f"'assistants' belongs to '{PATH}', but stands in '{name}'"
    if name == LAM:
        numbers = [one.low] if isinstance(one, RangeConfig) else one.choices
        good = all(isinstance(it, int | float) and not isinstance(it, bool) and it >= 0 for it in numbers)
        return None if good else f"'{LAM}' has to be a number of at least 0, but may be {json.dumps(numbers[0])}"
    if not may_be_set(name):
        return f"'{name}' is not for a trial to have; name '{PATH}', '{LAM}' or a setting of {settable_names()}"
    section, _, setting = name.partition(".")
    try:
        for value in ends(name, one):
            with_setting(SETTABLE[section](), setting, value)
    except ValueError as error:
        return f"'{name}' cannot be what the space says, because {error}"
    return None


def _refusal_of_path(one: RangeConfig | ChoicesConfig | AssistantsConfig) -> str | None:
    if isinstance(one, AssistantsConfig):
        return None
    if isinstance(one, RangeConfig):
        return f"'{PATH}' is a range of numbers, but should be a number of 'assistants', or 'choices' of paths"
    for path in one.choices:
        if not isinstance(path, list) or not all(isinstance(it, int | float) and 0 < it < 1 for it in path):
            return f"'{PATH}' may be {json.dumps(path)}, but each choice should be a list of scales between 0 and 1"
        if any(later >= earlier for earlier, later in pairwise(path)):  # type: ignore[operator]
            return f"'{PATH}' may be {json.dumps(path)}, but must fall from each assistant to the next"
    return None


def ends(name: str, one: RangeConfig | ChoicesConfig) -> list[Any]:
    """Return the two ends of a setting's range, or all of its choices."""
    if isinstance(one, ChoicesConfig):
        return list(one.choices)
    if takes_whole_numbers_alone(name):
        return [whole(one.low), whole(one.high)]
    return [one.low, one.high]


def whole(number: float) -> float | int:
    """Return a number as a whole one if it is one."""
    return int(number) if number == int(number) else number


def paths_of(choices: ChoicesConfig) -> list[tuple[float, ...]]:
    """Return the paths that a space has to choose from; the space has been checked."""
    paths: list[Any] = choices.choices
    return [tuple(float(scale) for scale in path) for path in paths]


DEFAULT_SPACE: dict[str, RangeConfig | ChoicesConfig | AssistantsConfig] = {
    PATH: AssistantsConfig(assistants=1),
    "distillation.lr": RangeConfig(low=3e-5, high=3e-3, log=True),
    "distillation.temperature": RangeConfig(low=1.0, high=4.0),
}
"""The space of a search that names none: KD or one assistant, and how both are distilled."""
