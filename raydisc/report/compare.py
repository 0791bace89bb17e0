"""``raydisc compare``: one row per schedule × path × teacher × seed × student scale, from the ledger alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from raydisc.errors import InputError
from raydisc.report.costs import Cost, StageGraph, cost_of, total
from raydisc.report.fronts import with_fronts
from raydisc.report.ledger import Ledger
from raydisc.report.oracle import oracle_rows
from raydisc.report.rows import Row, grouped, label_of, number, preference, ratio
from raydisc.report.runs import known_runs
from raydisc.report.schedules import schedule_order
from raydisc.report.schema import STOPPED_EARLY

Metrics = Mapping[tuple[str, str], Mapping[str, Any]]


def compare(ledger: Ledger, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of ``raydisc compare --json``, their fields as in ``Row.public``.

    Raises:
        InputError: The storage knows no such run.
    """
    return [row.public() for row in comparison(ledger, runs)]


def comparison(ledger: Ledger, runs: Sequence[str]) -> list[Row]:
    """Return one row per finished student of the runs, with costs, regret, selection and fronts.

    Rows are ordered by run (as asked for), student scale (falling), schedule, path (falling), teacher and seed. A
    trial that failed, or by which it was only decided who goes on, has no row, but the stages it finished count to its
    schedule's cost.

    Raises:
        InputError: The storage knows no such run.
    """
    require_runs(ledger, runs)
    runs = list(dict.fromkeys(runs))
    trials = ledger.rows("trials", run=runs)
    graph = StageGraph(ledger.rows("stages"))
    tests = [trial["test"] for trial in trials if trial["test"]]
    metrics = {(m["key"], m["metric"]): m for m in ledger.rows("metrics", keys=tests, split="test")}
    broken_off = ledger.rows("stages", latest=False, run=runs, state="stopped")
    costs = {group: _schedule_cost(graph, members, broken_off) for group, members in grouped(trials, _schedule).items()}
    rows = [
        _row(trial, graph, metrics, costs[_schedule(trial)])
        for trial in trials
        if trial["state"] == "finished" and trial["student"] and trial["rung"] == trial["rungs"]
    ]
    rows.sort(
        key=lambda r: (
            runs.index(r.run), -r.student_scale, schedule_order(r.schedule), r.label, [-s for s in r.path],
            r.teacher_seed or 0, r.seed, r.trial,
        )
    )  # fmt: skip
    return _against_oracle(with_fronts(_select(rows)))


def require_runs(ledger: Ledger, runs: Sequence[str]) -> None:
    """Check that the storage knows these runs.

    Raises:
        InputError: It does not; the message names those it knows.
    """
    known = known_runs(ledger)
    for run in runs:
        if run not in known:
            names = ", ".join(known) or "none"
            raise InputError(f"there is no run {run!r} in {ledger.files.parent}; the runs there are: {names}")


def _schedule(trial: Mapping[str, Any]) -> tuple[Any, ...]:
    return trial["run"], label_of(trial), trial["teacher_seed"], trial["seed"], trial["student_scale"]


def _schedule_cost(
    graph: StageGraph, trials: Sequence[Mapping[str, Any]], broken_off: Sequence[Mapping[str, Any]]
) -> Cost | None:
    """Cost of all trials of one schedule, with the stages in which some were stopped early.

    None where a stage they depend on is not in the ledger.
    """
    roots = [key for trial in trials for key in _roots(graph, trial)]
    asked = [key for trial in trials for key in trial["stages"] or ()]
    if graph.missing(roots, asked):
        return None
    early = {(trial["run"], trial["trial"]) for trial in trials if trial["state"] == STOPPED_EARLY}
    lost = [it for it in broken_off if (it["run"], it["trial"]) in early and it["key"] not in graph.stages]
    return graph.search_cost(roots) + total(cost_of(it) for it in lost)


def _roots(graph: StageGraph, trial: Mapping[str, Any]) -> list[str]:
    if trial["state"] == "finished" and trial["student"]:
        return _ends(trial)
    return [key for key in trial["stages"] or () if key in graph.stages]


def _ends(trial: Mapping[str, Any]) -> list[str]:
    """Return the student, and the supernet that decided, of which there need not be anything in the student."""
    return [trial["student"], *([trial["supernet"]] if trial["supernet"] else [])]


def _row(trial: Mapping[str, Any], graph: StageGraph, metrics: Metrics, schedule_cost: Cost | None) -> Row:
    roots = _ends(trial)
    known = not graph.missing(roots, trial["stages"] or ())
    test: Mapping[str, Any] = metrics.get((trial["test"], trial["metric"]), {})
    return Row(
        run=trial["run"],
        task=trial["task"],
        metric=trial["metric"],
        schedule=trial["schedule"],
        label=label_of(trial),
        path=tuple(trial["path"] or ()),
        student_scale=trial["student_scale"],
        student_parameters=trial["student_parameters"],
        lam=number(trial["lam"]),
        initialisation=trial["initialisation"],
        seed=trial["seed"],
        validation_metric=number(trial["validation_metric"]),
        test_metric=number(test.get("value")),
        test_se=number(test.get("se")),
        cost=graph.search_cost(roots) if known else None,
        schedule_cost=schedule_cost,
        trial=trial["trial"],
        student=trial["student"],
        supernet=trial["supernet"],
        test=trial["test"],
        teacher_seed=trial["teacher_seed"],
    )


def _select(rows: Sequence[Row]) -> list[Row]:
    """Mark the best path by validation of each run × schedule × teacher × seed × student scale.

    Ties: fewer assistants, then the smaller scales. A path without a validation metric is never selected.
    """
    best = set()
    for members in grouped(rows, lambda r: (r.run, r.label, r.replicate, r.student_scale)).values():
        measured = [row for row in members if row.validation_metric is not None]
        if measured:
            best.add(min(measured, key=preference))
    return [dataclasses.replace(row, selected=row in best) for row in rows]


def _against_oracle(rows: Sequence[Row]) -> list[Row]:
    """Fill in cost relative to the oracle and regret, where the run has an oracle path by the same teacher and seed."""
    oracles = oracle_rows(rows)
    return [_beside(row, oracles.get((row.run, row.student_scale, row.replicate))) for row in rows]


def _beside(row: Row, oracle: Row | None) -> Row:
    if oracle is None:
        return row
    both = row.test_metric is not None and oracle.test_metric is not None
    return dataclasses.replace(
        row,
        cost_relative_to_oracle=ratio(
            row.schedule_cost.flops if row.schedule_cost else None, oracle.cost.flops if oracle.cost else None
        ),
        regret=(oracle.test_metric or 0.0) - (row.test_metric or 0.0) if both else None,
    )
