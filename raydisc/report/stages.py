"""The stages behind a run, and what they say of its teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from raydisc.errors import InputError
from raydisc.report.costs import StageGraph
from raydisc.report.ledger import Ledger
from raydisc.report.rows import number
from raydisc.stages.kinds import kind_named


class StageSettings(BaseModel):
    """The part of a stage's settings that reports read.

    Attributes:
        scale: Of the model that it made.
        lam: By which it chose an assistant.
        teacher: Its stage, with the scale of a candidate where it is one.
    """

    scale: float | None = None
    lam: float | None = None
    teacher: tuple[str, float | None] | str | None = None


def settings_of(stage: Mapping[str, Any]) -> StageSettings:
    """Return the settings in a row of ``stages``.

    Raises:
        InputError: They are not what a run writes.
    """
    try:
        return StageSettings.model_validate_json(stage["settings"] or "{}")
    except ValidationError as error:
        raise InputError(
            f"the ledger's stage {stage['key']!r} has settings that no run writes; remove its part of 'stages', and "
            "resume the run: it writes it again"
        ) from error


def run_stages(ledger: Ledger, run: str, trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the stages that a run computed, asked for or depends on, in the order in which they finished."""
    rows = ledger.rows("stages")
    asked = [key for trial in trials for key in trial["stages"] or ()]
    ends = [key for trial in trials for key in (trial["student"], trial["test"]) if key]
    wanted = StageGraph(rows).closure([*asked, *ends])
    # The teacher's reading of the test set is nobody's input; another run may have computed it.
    tests = [row for row in rows if kind_named(row["kind"]).tests and row["inputs"]]
    wanted |= {row["key"] for row in tests if wanted.issuperset(row["inputs"])}
    mine = [row for row in rows if row["run"] == run or row["key"] in wanted]
    return sorted(mine, key=lambda row: row["finished_at"] or "")


def teacher(
    ledger: Ledger, trials: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Return the teacher's metrics: at the end of its fine-tuning (validation) and on the test split.

    Of several teachers the means are returned; the error of the mean is then at most the one given.
    """
    name = next((trial["metric"] for trial in trials), None)
    trained = [stage["key"] for stage in stages if kind_named(stage["kind"]).makes_teacher]
    tests = [stage for stage in stages if kind_named(stage["kind"]).tests]
    validations, measured = [], []
    for key in trained:
        found = ledger.rows("metrics", keys=[key], split="validation", metric=name, scale=None)
        # The evaluation after the last step has no step; without it the latest step counts.
        validations += sorted(found, key=lambda row: (row["step"] is None, row["step"] or 0))[-1:]
        tested = [stage["key"] for stage in tests if key in (stage["inputs"] or ())]
        measured += ledger.rows("metrics", keys=tested, split="test", metric=name, scale=None)[-1:]
    return {
        "validation_metric": _mean(row["value"] for row in validations),
        "test_metric": _mean(row["value"] for row in measured),
        "test_se": _mean(row["se"] for row in measured),
    }


def _mean(values: Iterable[Any]) -> float | None:
    known = [number(value) for value in values]
    finite = [value for value in known if value is not None]
    return sum(finite) / len(finite) if finite and len(finite) == len(known) else None


def run_teacher(ledger: Ledger, run: str) -> dict[str, float | None]:
    """Return the metrics of a run's teacher (see ``teacher``)."""
    trials = ledger.rows("trials", run=run)
    return teacher(ledger, trials, run_stages(ledger, run, trials))
