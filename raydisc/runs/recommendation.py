"""A recommendation as a source of proposals: each rung is proposed when the rung before has ended."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from raydisc.forecast.dry_run import Forecaster
from raydisc.forecast.searches import foreseen
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.halving import Shown, survivors
from raydisc.runs.proposals import TrialResult
from raydisc.runs.sources import Asked, SourceKind
from raydisc.schedules.base import Trial
from raydisc.schedules.rungs import Rung

Resampled = Callable[[Sequence[Trial]], Sequence[np.ndarray | None]]
"""Returns the validation metric of each trial on resamples of the examples, ``[resamples]``; None where not known."""


class Ladder:
    """Proposes the trials of a ladder, for one student, one teacher and one seed.

    What it proposes is a function of the results alone.

    Args:
        trials: The trials of all rungs, for whichever arms may come so far, in the order of the prior.
        resampled: Returns the metrics of finished trials on resamples.
    """

    def __init__(self, trials: Sequence[Trial], resampled: Resampled) -> None:
        """Start with the first rung."""
        self._trials, self._resampled = trials, resampled
        self._number = 0
        self._waiting: list[Trial] = []
        self._open: dict[Trial, TrialResult | None] = {}

    def next(self) -> Trial | None:
        """Return the next trial of the rung; None while others of it are open, and after the last rung."""
        if not self._waiting and all(result is not None for result in self._open.values()):
            self._waiting = self._following()
            self._open = dict.fromkeys(self._waiting)
        return self._waiting.pop(0) if self._waiting else None

    def tell(self, trial: Trial, result: TrialResult) -> None:
        """Take the result of a trial."""
        self._open[trial] = result

    def _following(self) -> list[Trial]:
        """Return the trials of the next rung: of the arms that go on, and of those that begin there."""
        number = self._number + 1
        of_rung = {_rung(trial).arm: trial for trial in self._trials if _rung(trial).number == number}
        if not of_rung:
            return []
        places = _rung(next(iter(of_rung.values()))).places[number - 1]
        before = {_rung(trial).arm for trial in self._trials if _rung(trial).number < number}
        new = [arm for arm in of_rung if arm not in before]
        going_on = self._survivors(places - len(new)) if number > 1 else []
        self._number = number
        return [trial for arm, trial in of_rung.items() if arm in (*new, *going_on)]

    def _survivors(self, places: int) -> list[str]:
        done = {trial: result for trial, result in self._open.items() if result is not None}
        finished = [trial for trial, result in done.items() if _metric(result) is not None]
        shown = [
            Shown(_rung(trial).arm, _metric(done[trial]) or 0.0, metrics)
            for trial, metrics in zip(finished, self._resampled(finished), strict=True)
        ]
        return survivors(shown, places)


def _metric(result: TrialResult) -> float | None:
    known = result.state == "finished" and result.metric is not None and math.isfinite(result.metric)
    return result.metric if known else None


def _rung(trial: Trial) -> Rung:
    rung = trial.rung
    assert rung is not None
    return rung


class Recommendation:
    """The source of the trials of the schedule ``recommend``."""

    def __init__(self) -> None:
        """Start with no ladder known."""
        self._known: dict[str, list[Trial]] = {}

    def refuse(self, asked: Asked) -> None:
        """Refuse a budget that is too small for anything.

        Raises:
            InputError: The budget is too small, or no arm fits the experiment.
        """
        self._ladder(asked)

    def begin(self, asked: Asked) -> Ladder:
        """Return the ladder of one student, one teacher and one seed."""

        def resampled(trials: Sequence[Trial]) -> list[np.ndarray | None]:
            ledger, metric = asked.ledger, asked.subject.metric
            names = [trial.name for trial in trials]
            rows = {row["trial"]: row for row in ledger.rows("trials", run=asked.experiment.name, trial=names)}
            bootstrap = Bootstrap(ledger)
            return [bootstrap.metric(metric, rows.get(name, {}).get("student"), "validation") for name in names]

        return Ladder(self._ladder(asked), resampled)

    def _ladder(self, asked: Asked) -> list[Trial]:
        """Return the trials of all rungs, which are the same for every process that asks."""
        place = f"{asked.experiment.model_dump_json()} {asked.student_scale} {asked.teacher_seed} {asked.seed}"
        if place not in self._known:
            with tempfile.TemporaryDirectory(prefix="raydisc-ladder-") as scratch:
                forecaster = Forecaster(asked.experiment, asked.subject, Path(scratch))
                self._known[place] = foreseen(
                    asked.experiment, asked.schedule, asked.student_scale, asked.teacher_seed, asked.seed, forecaster
                )
        return self._known[place]


RECOMMENDATION: SourceKind = Recommendation()
