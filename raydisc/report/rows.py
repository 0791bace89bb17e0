"""One finished trial as a row of the comparison, and the orders and tie rules that hold among rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from raydisc.report.costs import Cost

FIELDS = (
    "run", "task", "schedule", "path", "student_scale", "student_parameters", "lam", "initialisation", "seed",
    "validation_metric", "test_metric", "test_se", "search_flops", "schedule_flops", "device_seconds",
    "wall_seconds", "cost_relative_to_oracle", "regret", "selected", "teacher_seed", "label",
    "on_front",
)  # fmt: skip
"""Fields of a row in ``raydisc compare --json`` and ``--csv``, in order."""

T = TypeVar("T")

Replicate = tuple[int | None, int]
"""The seed of the teacher, None where the run has one, and the seed of the search."""


@dataclass(frozen=True)
class Row:
    """One schedule × path × teacher × seed × student scale; None where a number is not known.

    Attributes:
        run: Name of the run.
        task: Name of the task.
        metric: Name of the metric that all of the row's metrics are.
        schedule: Name of the schedule or control.
        label: The name with the options by which it differs from others of this name; rows with the same label are of
            one schedule.
        path: TA scales in order, empty for KD.
        student_scale: Nominal scale of the student.
        student_parameters: Parameters of the whole student.
        lam: λ where the schedule has one.
        initialisation: What the student's first weights were cut from.
        seed: The seed.
        validation_metric: The student's on the validation split.
        test_metric: The student's on the test split.
        test_se: Standard error of ``test_metric`` over test examples.
        cost: Search cost of this path alone.
        schedule_cost: Search cost of all the schedule's trials with this run, teacher, seed and student scale.
        trial: The trial's identifier.
        student: Stage key of the student.
        supernet: Stage key of the once-for-all that the trial used.
        test: Stage key of the evaluation on the test split.
        teacher_seed: The seed of the teacher; None where the run has one teacher.
        cost_relative_to_oracle: ``schedule_cost`` in FLOPs over the oracle path's own, by the same teacher and seed.
        regret: The oracle path's test metric minus this row's, by the same teacher and seed.
        selected: Whether this is the schedule's best path by validation, for its teacher, seed and student scale.
        on_front: Whether no other row of the schedule, for its teacher, seed and student scale, is as good by
            validation for as few FLOPs.
    """

    run: str
    task: str
    metric: str
    schedule: str
    label: str
    path: tuple[float, ...]
    student_scale: float
    student_parameters: int | None
    lam: float | None
    initialisation: str | None
    seed: int
    validation_metric: float | None
    test_metric: float | None
    test_se: float | None
    cost: Cost | None
    schedule_cost: Cost | None
    trial: str
    student: str
    supernet: str | None
    test: str | None
    teacher_seed: int | None
    cost_relative_to_oracle: float | None = None
    regret: float | None = None
    selected: bool = False
    on_front: bool = False

    @property
    def replicate(self) -> Replicate:
        """The teacher and the seed, by which rows of different schedules are paired."""
        return self.teacher_seed, self.seed

    def public(self) -> dict[str, Any]:
        """Return the row as ``raydisc compare --json`` gives it; ``*_seconds`` are of this path alone."""
        return {
            "run": self.run,
            "task": self.task,
            "schedule": self.schedule,
            "path": list(self.path),
            "student_scale": self.student_scale,
            "student_parameters": self.student_parameters,
            "lam": self.lam,
            "initialisation": self.initialisation,
            "seed": self.seed,
            "validation_metric": self.validation_metric,
            "test_metric": self.test_metric,
            "test_se": self.test_se,
            "search_flops": self.cost.flops if self.cost else None,
            "schedule_flops": self.schedule_cost.flops if self.schedule_cost else None,
            "device_seconds": self.cost.device_seconds if self.cost else None,
            "wall_seconds": self.cost.wall_seconds if self.cost else None,
            "cost_relative_to_oracle": self.cost_relative_to_oracle,
            "regret": self.regret,
            "selected": self.selected,
            "teacher_seed": self.teacher_seed,
            "label": self.label,
            "on_front": self.on_front,
        }


def label_of(trial: Mapping[str, Any]) -> str:
    """Return the label of a row of ``trials``; in rows of earlier versions the schedule's name takes its place."""
    return str(trial["label"] or trial["schedule"])


def number(value: Any) -> float | None:
    """Return the value as a float; None where it is missing or not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def ratio(above: float | None, below: float | None) -> float | None:
    """Return the quotient; None where a side is missing or the divisor is 0."""
    return None if above is None or not below else above / below


def path_order(path: tuple[float, ...]) -> tuple[int, tuple[float, ...]]:
    """Return a key by which the path that wins a tie is the smallest: fewer assistants, then smaller scales."""
    return len(path), path


def preference(row: Row) -> tuple[Any, ...]:
    """Return a key by which the preferred row is the smallest: the best by validation.

    Ties: fewer assistants, then the smaller scales. A row without a validation metric comes last.
    """
    metric = row.validation_metric
    return metric is None, -(metric or 0.0), path_order(row.path), row.trial


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Any, list[T]]:
    """Return items grouped by key, groups and items in the order in which they came."""
    groups: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


def reference(candidate: Mapping[str, Any]) -> float:
    """Return the value that a candidate's metric is divided by in the tradeoff; 1 in rows of earlier versions."""
    return number(candidate.get("reference")) or 1.0
