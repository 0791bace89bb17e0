"""The space of a search as numbers and values that are drawn one by one, and what a drawing stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from raydisc.config.settings import takes_whole_numbers_alone
from raydisc.config.space import LAM, PATH, AssistantsConfig, ChoicesConfig, RangeConfig, ends, paths_of

Space = Mapping[str, RangeConfig | ChoicesConfig | AssistantsConfig]
"""What a trial may be, by the names of an experiment file."""

Values = Mapping[str, Any]
"""What was drawn for a trial, by the names of dimensions."""

_COUNT, _ARM = f"{PATH}.assistants", "arm"
_DIGITS = 3
"""The significant digits of drawn numbers, which become a part of the trial's name."""


@dataclass(frozen=True)
class Dimension:
    """One number or value that is drawn for a trial.

    Attributes:
        low: The smallest number.
        high: The largest number.
        log: Whether its logarithm is drawn.
        whole: Whether only whole numbers are drawn.
        choices: The values; empty where a number is drawn. Lists and mappings are written as JSON.

    Example:
        >>> Dimension(low=0.001, high=0.1, log=True).rounded(0.0123456)
        0.0123
        >>> Dimension(choices=("supernet", "teacher")).has("importance")
        False
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def rounded(self, value: Any) -> Any:
        """Return a drawn value with few digits, within the bounds."""
        if self.choices or self.whole:
            return value
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def has(self, value: Any) -> bool:
        """Whether a value may be drawn."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (not self.whole or value == int(value))

    @property
    def first(self) -> Any:
        """The smallest number, or the first value."""
        if self.choices:
            return self.choices[0]
        return int(self.low) if self.whole else self.low


@dataclass(frozen=True)
class Point:
    """A point of a space: what distinguishes a trial of a search from the others.

    Attributes:
        path: The scales of the assistants in order.
        lam: λ, where the trial does as MiniDisc does; None where it has a path.
        settings: Settings of its own, by their dotted names.
    """

    path: tuple[float, ...] = ()
    lam: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def dimensions(space: Space, above: Sequence[float]) -> dict[str, Dimension]:
    """Return what is drawn for each trial, whatever it comes to, as some samplers want it.

    A path of up to n assistants is drawn as their number and n places on the grid, of which equal ones count once.

    Args:
        space: The space.
        above: The scales of the grid above the student's, descending.

    Example:
        >>> list(dimensions({"path": AssistantsConfig(assistants=2), "lam": RangeConfig(low=0, high=1)}, (0.9, 0.5)))
        ['path.assistants', 'path.1', 'path.2', 'lam', 'arm']
    """
    found: dict[str, Dimension] = {}
    for name, one in space.items():
        if isinstance(one, AssistantsConfig):
            found[_COUNT] = Dimension(high=one.assistants, whole=True)
            for place in range(one.assistants):
                found[f"{PATH}.{place + 1}"] = Dimension(high=len(above) - 1, whole=True)
        elif isinstance(one, RangeConfig):
            found[name] = Dimension(one.low, one.high, one.log, name != LAM and takes_whole_numbers_alone(name))
        else:
            found[name] = Dimension(choices=tuple(map(_plain, one.choices)))
    if {PATH, LAM} <= space.keys():
        found[_ARM] = Dimension(choices=(PATH, LAM))
    return found


def point_of(values: Values, space: Space, above: Sequence[float]) -> Point:
    """Return the point that drawn values stand for.

    Args:
        values: A value of each of the ``dimensions``.
        space: The space.
        above: The scales of the grid above the student's, descending.

    Example:
        >>> space = {"path": AssistantsConfig(assistants=2)}
        >>> point_of({"path.assistants": 2, "path.1": 1, "path.2": 0}, space, (0.9, 0.5)).path
        (0.9, 0.5)
        >>> point_of({"path.assistants": 2, "path.1": 1, "path.2": 1}, space, (0.9, 0.5)).path
        (0.5,)
    """
    has_lam = LAM in space and values.get(_ARM, LAM) == LAM
    settings = {
        name: _as_written(values[name], one)
        for name, one in space.items()
        if name not in (PATH, LAM) and (has_lam or not name.startswith("once_for_all."))
    }
    if has_lam:
        return Point((), float(_as_written(values[LAM], space[LAM])), settings)
    path = space.get(PATH)
    if isinstance(path, AssistantsConfig):
        places = {values[f"{PATH}.{place + 1}"] for place in range(values[_COUNT])}
        return Point(tuple(above[place] for place in sorted(places)), None, settings)
    return Point(tuple(json.loads(values[PATH])) if path else (), None, settings)


def values_of(point: Point, space: Space, above: Sequence[float]) -> dict[str, Any] | None:
    """Return values that stand for a point, or None where the space does not have it.

    Args:
        point: The point, with a setting for each of the space.
        space: The space.
        above: The scales of the grid above the student's, descending.

    Example:
        >>> space = {"path": AssistantsConfig(assistants=1), "distillation.lr": RangeConfig(low=1e-5, high=1e-3)}
        >>> values_of(Point((0.5,), None, {"distillation.lr": 1e-4}), space, (0.9, 0.5))
        {'path.assistants': 1, 'path.1': 1, 'distillation.lr': 0.0001}
        >>> values_of(Point((0.5,), None, {"distillation.lr": 1e-2}), space, (0.9, 0.5)) is None
        True
    """
    wanted = dimensions(space, above)
    found = {name: one.first for name, one in wanted.items()}
    found |= {name: _plain(value) for name, value in point.settings.items() if name in wanted}
    path = space.get(PATH)
    if point.lam is not None:
        found |= {LAM: point.lam, _ARM: LAM}
    elif isinstance(path, AssistantsConfig):
        if not set(point.path) <= set(above):
            return None
        found |= {_COUNT: len(point.path), _ARM: PATH}
        found |= {f"{PATH}.{place + 1}": above.index(scale) for place, scale in enumerate(point.path)}
    else:
        found |= {PATH: _plain(list(point.path)), _ARM: PATH}
    values = {name: found[name] for name in wanted}
    fits = all(one.has(values[name]) for name, one in wanted.items())
    return values if fits and point_of(values, space, above) == point else None


def corners(space: Space, above: Sequence[float]) -> Iterator[Point]:
    """Yield points between which the cost of every point lies: all settings small, then all large, for some paths.

    Args:
        space: The space.
        above: The scales of the grid above the student's, descending.
    """
    settings = [
        {name: ends(name, one)[end] for name, one in space.items() if not isinstance(one, AssistantsConfig)
         and name not in (PATH, LAM)}
        for end in (0, -1)
    ]  # fmt: skip
    of_paths = [{name: value for name, value in it.items() if not name.startswith("once_for_all.")} for it in settings]
    if PATH in space or LAM not in space:
        yield from (Point(path, None, it) for it, path in product(of_paths, _some_paths(space.get(PATH), above)))
    if LAM in space:
        lams = _ends_of_lam(space[LAM])
        yield from (Point((), lam, it) for it, lam in product(settings, lams))


def _some_paths(one: RangeConfig | ChoicesConfig | AssistantsConfig | None, above: Sequence[float]) -> list[Any]:
    """Return no assistant, the largest and the smallest ones; or all choices."""
    if isinstance(one, AssistantsConfig):
        return [(), tuple(above[: one.assistants]), tuple(above[-one.assistants :])]
    return [()] if one is None else paths_of(one)  # type: ignore[arg-type]


def _ends_of_lam(one: RangeConfig | ChoicesConfig | AssistantsConfig) -> list[float]:
    numbers: list[Any] = [one.low, one.high] if isinstance(one, RangeConfig) else one.choices  # type: ignore[union-attr]
    return [float(min(numbers)), float(max(numbers))]


def _plain(value: Any) -> Any:
    """Return a value as a sampler takes it: lists and mappings are written as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _as_written(value: Any, one: RangeConfig | ChoicesConfig | AssistantsConfig) -> Any:
    """Return a drawn value as the experiment file writes it."""
    if isinstance(one, ChoicesConfig):
        return next(choice for choice in one.choices if _plain(choice) == value)
    return value
