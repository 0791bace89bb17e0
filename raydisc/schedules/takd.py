"""Distillation along the assistants that the user gives (TAKD, Mirzadeh et al. 2019, arXiv 1902.03393)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import Scale
from raydisc.schedules.base import Mark, Schedule, Trial
from raydisc.schedules.path import along
from raydisc.schedules.steps import Outcome, Steps

if TYPE_CHECKING:
    from raydisc.schedules.search import Search


class TakdOptions(ScheduleOptions):
    """Options of ``takd``."""

    path: Annotated[list[Scale], Field(strict=False, min_length=1)]
    """The scales of the assistants in order, each below the one before."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if any(later >= earlier for earlier, later in zip(self.path, self.path[1:], strict=False)):
            raise ValueError(f"the path {self.path} must fall from each assistant to the next")
        return self


class Takd(Schedule[TakdOptions]):
    """Teacher → the given assistants → student."""

    name = "takd"
    Options = TakdOptions
    title = "TAKD"
    mark = Mark("#009E73", "v")
    place = 40

    @property
    def stem(self) -> str:
        """The name alone: the path stands in the trial's name."""
        return self.name

    def refusal(self, scales: Sequence[float], student_scale: float) -> str | None:
        """Return a sentence where an assistant is not larger than the student; they need not be on the grid."""
        if self.options.path[-1] > student_scale:
            return None
        return f"schedules: the takd path {self.options.path} must stay above the student's scale {student_scale:g}"

    def trials(self, above: Sequence[float], student_scale: float, seed: int) -> Iterator[Trial]:
        """Make the trial of the given path."""
        yield Trial(self, student_scale, seed, tuple(self.options.path))

    def run(self, search: Search) -> Steps[Outcome]:
        """Distil along the given path."""
        return (yield from along(search, search.path))
