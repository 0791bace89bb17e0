"""The result of a recommendation: its student, its arms on each rung, the FLOPs spent, and the gain of more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.costs import StageGraph
from raydisc.report.extrapolation import Expected, Point, at_twice
from raydisc.report.halving import Shown, alike, error_of_difference
from raydisc.report.ledger import Ledger
from raydisc.report.rows import grouped, number
from raydisc.schedules.arms import ARMS

QUANTILE = 1.96
"""Standard errors on either side of an estimate in an interval of 95 %."""


@dataclass(frozen=True)
class Estimated:
    """A metric with its standard error over the examples, None where it is not known, and its interval of 95 %."""

    value: float
    se: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The bounds; None without a standard error."""
        return None if self.se is None else (self.value - QUANTILE * self.se, self.value + QUANTILE * self.se)


@dataclass(frozen=True)
class Standing:
    """An arm on a rung.

    Attributes:
        arm: The name of the arm.
        rung: The rung, from 1.
        metric: Its validation metric; None where its trial has not finished.
        behind: How far it is behind the best arm of the rung.
        behind_se: The standard error of that difference; 0 where it is not known.
        is_alike: Whether it cannot be told from the best.
        goes_on: Whether it came to the next rung, or was finished on the last; None where the next has not begun.
        flops: What it had cost by then, as if it ran alone.
    """

    arm: str
    rung: int
    metric: Estimated | None
    behind: float
    behind_se: float
    is_alike: bool
    goes_on: bool | None
    flops: float


@dataclass(frozen=True)
class Page:
    """A recommendation for one student, one teacher and one seed.

    Attributes:
        run: Name of the run.
        metric: Name of the metric.
        student_scale: Nominal scale of the student.
        teacher_seed: The seed of the teacher; None where the run has one teacher.
        seed: The seed of the trials.
        budget_flops: The budget.
        rungs: The number of rungs.
        trial: The trial that finished the student; None where there is none yet.
        arm: Its arm.
        place: The folder or address of the student.
        validation: Its validation metric.
        test: Its test metric.
        standings: The arms on each rung.
        spent: FLOPs by what they were spent on: what arms share, and each arm's own.
        twice: What each arm would come to with twice the budget; None where it is not known.
    """

    run: str
    metric: str
    student_scale: float
    teacher_seed: int | None
    seed: int
    budget_flops: float
    rungs: int
    trial: str | None
    arm: str | None
    place: str | None
    validation: Estimated | None
    test: Estimated | None
    standings: tuple[Standing, ...]
    spent: Mapping[str, float]
    twice: Mapping[str, Expected | None]

    def on(self, rung: int) -> list[Standing]:
        """Return the arms on a rung."""
        return [it for it in self.standings if it.rung == rung]


def pages(ledger: Ledger, run: str) -> list[Page]:
    """Return the recommendations of a run, one for each student, teacher and seed."""
    trials = [trial for trial in ledger.rows("trials", run=run) if trial["arm"]]
    if not trials:
        return []
    order = list(ARMS)
    trials.sort(key=lambda it: (it["rung"], order.index(it["arm"]) if it["arm"] in order else len(order), it["arm"]))
    graph, bootstrap = StageGraph(ledger.rows("stages")), Bootstrap(ledger)
    groups = grouped(trials, lambda it: (-it["student_scale"], it["teacher_seed"] or 0, it["seed"]))
    return [_Reader(run, groups[place], graph, bootstrap).page() for place in sorted(groups)]


class _Reader:
    """Reads one recommendation out of the rows of its trials.

    Args:
        run: Name of the run.
        trials: The rows, rung by rung and in the order of the prior.
        graph: The stages of the storage.
        bootstrap: The metrics of stored predictions on resamples.
    """

    def __init__(self, run: str, trials: Sequence[Mapping[str, Any]], graph: StageGraph, bootstrap: Bootstrap) -> None:
        self.run, self.trials, self.graph, self.bootstrap = run, trials, graph, bootstrap
        self.finished = [it for it in trials if it["state"] == "finished" and it["student"]]

    def page(self) -> Page:
        first = self.trials[0]
        last = next((it for it in self.finished if it["rung"] == it["rungs"]), None)
        parent = self.bootstrap.ledger.files.parent
        return Page(
            run=self.run,
            metric=first["metric"],
            student_scale=first["student_scale"],
            teacher_seed=first["teacher_seed"],
            seed=first["seed"],
            budget_flops=first["budget_flops"],
            rungs=first["rungs"],
            trial=None if last is None else last["trial"],
            arm=None if last is None else last["arm"],
            place=None if last is None else str(parent / self.run / "students" / last["trial"]),
            validation=None if last is None else self._validation(last),
            test=None if last is None else self._test(last),
            standings=tuple(it for number in range(first["rungs"]) for it in self._standings(number + 1)),
            spent=self._spent(),
            twice=self._twice(),
        )

    def _resampled(self, trial: Mapping[str, Any]) -> np.ndarray | None:
        return self.bootstrap.metric(trial["metric"], trial["student"], "validation")

    def _validation(self, trial: Mapping[str, Any]) -> Estimated | None:
        value = number(trial["validation_metric"])
        return None if value is None else Estimated(value, _error(self._resampled(trial)))

    def _test(self, trial: Mapping[str, Any]) -> Estimated | None:
        if not trial["test"]:
            return None
        found = self.bootstrap.ledger.rows("metrics", keys=[trial["test"]], split="test", metric=trial["metric"])
        values = [(number(row["value"]), number(row["se"])) for row in found]
        return next((Estimated(value, se) for value, se in values if value is not None), None)

    def _flops(self, trials: Sequence[Mapping[str, Any]]) -> float:
        return self.graph.search_cost(self._ends(trials)).flops

    def _ends(self, trials: Sequence[Mapping[str, Any]]) -> list[str]:
        return [key for trial in trials for key in (trial["student"], trial["supernet"]) if key]

    def _standings(self, rung: int) -> list[Standing]:
        """Return the arms of a rung, those that failed last."""
        here = [it for it in self.trials if it["rung"] == rung]
        further = {it["arm"] for it in self.trials if it["rung"] == rung + 1}
        measured = {it["arm"]: it for it in here if it in self.finished and self._validation(it) is not None}
        shown = [Shown(arm, it["validation_metric"], self._resampled(it)) for arm, it in measured.items()]
        best = max(shown, key=lambda it: it.metric, default=None)
        same = alike(shown) if shown else []
        found = []
        for one in shown:
            assert best is not None
            trial = measured[one.arm]
            goes_on = trial["rungs"] == rung or (one.arm in further if further else None)
            found.append(
                Standing(
                    one.arm,
                    rung,
                    self._validation(trial),
                    best.metric - one.metric,
                    error_of_difference(best, one),
                    one.arm in same,
                    goes_on,
                    self._flops([trial]),
                )  # fmt: skip
            )
        failed = [it["arm"] for it in here if it["arm"] not in measured]
        return [*found, *(Standing(arm, rung, None, 0.0, 0.0, False, False, 0.0) for arm in failed)]

    def _spent(self) -> dict[str, float]:
        """Return the FLOPs of what several arms share, by kind of stage, and of what each arm has for itself."""
        asked = {
            arm: self.graph.searched(self._ends(of_arm))
            for arm, of_arm in grouped(self.finished, lambda it: it["arm"]).items()
        }
        spent: dict[str, float] = {}
        for key in sorted(set().union(*asked.values())):
            askers = [arm for arm, keys in asked.items() if key in keys]
            stage = self.graph.stages[key]
            place = askers[0] if len(askers) == 1 and len(asked) > 1 else str(stage["kind"])
            spent[place] = spent.get(place, 0.0) + float(stage["flops"] or 0.0)
        order = [*(name for name in spent if name not in ARMS), *(name for name in ARMS if name in spent)]
        return {name: spent[name] for name in order}

    def _twice(self) -> dict[str, Expected | None]:
        end = max((self._flops([it]) for it in self.finished), default=0.0)
        found = {}
        for arm, of_arm in grouped(self.finished, lambda it: it["arm"]).items():
            measured = [(it, self._validation(it)) for it in of_arm]
            points = [Point(self._flops([it]), value.value, self._resampled(it)) for it, value in measured if value]
            found[arm] = at_twice(points, end)
        return found


def _error(resampled: np.ndarray | None) -> float | None:
    return None if resampled is None else float(resampled.std(ddof=1))
