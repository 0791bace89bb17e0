"""The schedules of a ledger's rows: their place in tables, their mark in figures, their role in comparisons.

A ledger may name a schedule of a package that is not installed here; it stands last, with the default mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from raydisc.schedules import SCHEDULES
from raydisc.schedules.base import Control, Mark, Schedule


class Labelled(Protocol):
    """A row or a line of one schedule."""

    @property
    def schedule(self) -> str:
        """The schedule's name."""

    @property
    def label(self) -> str:
        """The name with the options by which it differs from others of this name."""


def registered(name: str) -> type[Schedule[Any]] | None:
    """Return the schedule of a name, or None where it is not known here."""
    return SCHEDULES.get(name) if name in SCHEDULES else None


def schedule_order(name: str) -> tuple[int, str]:
    """Return the place of a schedule in every table."""
    return (registered(name) or Schedule).place, name


def mark_of(name: str) -> Mark:
    """Return the mark of a schedule in figures."""
    return (registered(name) or Schedule).mark


def title_of(name: str) -> str:
    """Return the name of a schedule in running text."""
    return (registered(name) or Schedule).title or name


def is_control(name: str) -> bool:
    """Whether a schedule stands beside another one."""
    return (registered(name) or Schedule).is_control


def has_fronts(name: str) -> bool:
    """Whether the fronts of a schedule's trials are shown."""
    return (registered(name) or Schedule).fronts


def control_labels(row: Labelled) -> dict[type[Control], str]:
    """Return the labels of the controls beside a schedule; none for a control and for a schedule not known here."""
    schedule = registered(row.schedule)
    return {kind: kind.label_beside(schedule, row.label) for kind in schedule.controls} if schedule else {}


def reference_schedule() -> str:
    """Return the name of the schedule that the others are measured against."""
    return next(schedule.name for schedule in SCHEDULES if schedule.measured_against)


def reference_label(rows: Iterable[Labelled]) -> str | None:
    """Return the label of what the others of a run are measured against; None where the run has no such schedule.

    Of several it is the one with the usual options, or else the first.
    """
    labels = [row.label for row in rows if row.schedule == reference_schedule()]
    return reference_schedule() if reference_schedule() in labels else next(iter(labels), None)


def oracle_schedule() -> str:
    """Return the name of the schedule whose best path is the oracle path."""
    return next(schedule.name for schedule in SCHEDULES if schedule.exhaustive)


def compared() -> list[type[Schedule[Any]]]:
    """Return the schedules that ``raydisc plan`` shows whatever an experiment names, in the order of tables."""
    return sorted((it for it in SCHEDULES if it.compared), key=lambda it: schedule_order(it.name))
