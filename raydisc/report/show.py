"""``raydisc show``: the stages, candidates, ranking and trials of one run.

The entries of what ``show`` returns:

- ``run``, ``task``, ``metric``;
- ``stages``: every stage the run depends on, in the order in which they finished, with its cost, the
  ``scale`` of what it made (of teacher outputs that of their model), whether it was ``reused`` from
  another run, and of teacher outputs where they are ``kept`` (memory, disk or online), their
  ``kept_bytes``, the type of the hidden states (``kept_dtype``) and the root mean square error that it
  brings, relative to theirs (``kept_error``); and what computed it: the versions of ``torch`` and
  ``transformers``, ``cpu_capability`` and ``device``, null where they are not known;
- ``candidates``: the possible assistants of each supernet, by place, with ``supernet``,
  ``student_scale``, ``teacher_seed``, ``seed`` and ``lam`` of the ranking, ``win_share``, whether it was
  ``chosen``, ``final_metric`` where it was trained to the end, with the others or alone;
- ``subnets``: the student's own scale in each supernet, when the assistant was chosen;
- ``trials``: finished and failed, with metrics and the cost of each path alone;
- ``teacher``: its ``validation_metric``, ``test_metric`` and ``test_se``, as far as they were measured; the
  means over several teachers;
- ``lam``: λ of the first ranking; ``break_points``: what every other λ would choose (``lam_to`` null:
  no end), ``early`` where it would train a supernet of its own, since λ had a part in the training of this
  one;
- ``effects``: what the controls of a schedule tell apart (see ``raydisc.schedules.effects``), each with
  ``student_scale``, ``label`` of the schedule, ``effect``, its ``mean`` with the bounds ``low`` and ``high``
  (null without predictions), the ``teachers`` and ``runs`` that it pools, the ``differences`` that estimate
  it, and a ``sentence``;
- ``conclusion``: sentences on what the tables support, for each student and schedule;
- ``spent``: what the run itself computed, without stages found in the storage;
- ``recommendations``: of each schedule that spends a budget on arms its student, the arms on each rung, what
  was spent on what, what twice the budget would buy, and all of it in ``sentences``;
- ``notices``: what to know before believing the numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison, require_runs
from raydisc.report.conclusion import conclusions
from raydisc.report.costs import Cost, cost_of, total
from raydisc.report.effects import judge, sentences
from raydisc.report.ledger import Ledger
from raydisc.report.platforms import mixtures
from raydisc.report.ranking import Ranking, ranking, uses
from raydisc.report.recommendation import pages
from raydisc.report.recommendation_text import page_json
from raydisc.report.rows import Row, label_of
from raydisc.report.stages import run_stages, settings_of, teacher


def show(ledger: Ledger, run: str, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """Return everything that the ledger knows of a run, ready for JSON (``raydisc show RUN --json``).

    Args:
        ledger: The ledger.
        run: Name of the run.
        bootstrap: Resamples of the ledger's predictions, where they are used for more than this.

    Returns:
        A dictionary with the entries that the beginning of this module lists.

    Raises:
        InputError: The storage knows no such run.
    """
    require_runs(ledger, [run])
    trials = ledger.rows("trials", run=run)
    rows = comparison(ledger, [run])
    effects = judge(bootstrap or Bootstrap(ledger), rows).effects
    stages = run_stages(ledger, run, trials)
    rankings = [ranking(ledger, use) for use in uses(ledger, trials, stages)]
    computed = ledger.rows("stages", latest=False, run=run)
    scales = {stage["key"]: settings_of(stage).scale for stage in stages}
    return {
        "run": run,
        "task": next((trial["task"] for trial in trials), None),
        "metric": next((trial["metric"] for trial in trials), None),
        "stages": [_stage(stage, run, scales) for stage in stages],
        "candidates": [_plain(_tags(r) | dataclasses.asdict(c)) for r in rankings for c in r.candidates],
        "subnets": [_subnet(r) for r in rankings if r.subnet is not None],
        "trials": [_trial(trial, rows) for trial in trials],
        "teacher": teacher(ledger, trials, stages),
        "lam": rankings[0].use.lam if rankings else None,
        "break_points": [
            _plain(_tags(r) | {"lam_from": low, "lam_to": high, "scale": scale, "early": r.early})
            for r in rankings
            for low, high, scale in r.steps
        ],
        "effects": [{**it.public(), "sentence": told} for it, told in zip(effects, sentences(effects), strict=True)],
        "conclusion": conclusions(rows, effects),
        "recommendations": [page_json(page) for page in pages(ledger, run)],
        "spent": dataclasses.asdict(_spent(computed)),
        "notices": [*notices(trials, rows, rankings), *mixtures(ledger, rows)],
    }


def _spent(computed: Sequence[Mapping[str, Any]]) -> Cost:
    """Return the cost of rows of stages; a stage that went on from where it was stopped has it all in its last row."""
    finished = {stage["key"] for stage in computed if stage["state"] == "finished"}
    return total(cost_of(it) for it in computed if it["state"] != "stopped" or it["key"] not in finished)


def notices(trials: Sequence[Mapping[str, Any]], rows: Sequence[Row], rankings: Sequence[Ranking]) -> list[str]:
    """Return what a reader should know before believing the numbers."""
    told = [doubt(r, len(rankings) > 1) for r in rankings if r.within_noise]
    for trial in trials:
        if trial["state"] == "failed":
            by = formats.replicate(trial["teacher_seed"], trial["seed"])
            named = f"trial {trial['trial']} ({trial['schedule']}, {by})"
            told.append(f"{named} failed: {trial['message'] or 'no reason given'}")
    for row in rows:
        named = f"trial {row.trial} ({row.schedule}, {formats.replicate(*row.replicate)})"
        if row.cost is None:
            told.append(f"{named} depends on a stage that is not in the ledger, so its cost is not known")
        if row.validation_metric is None:
            told.append(f"{named} has no finite validation metric, so it cannot be selected")
    return told


def doubt(ranking: Ranking, several: bool = False) -> str:
    """Return the sentence that says which assistants cannot be told apart."""
    shares = {c.scale: c.win_share for c in ranking.candidates}
    alike = [formats.scale(scale) for scale in ranking.within_noise]
    wins = [formats.share(shares[scale]) for scale in ranking.within_noise]
    use = ranking.use
    by = formats.replicate(use.teacher_seed, use.seed)
    where = f" (student {formats.scale(use.student_scale)}, {by}, λ = {use.lam:g})" if several else ""
    return (
        f"the choice of TA is within noise{where}: {formats.listed(alike)} cannot be told apart "
        f"(best in {formats.listed(wins)} of resamples)"
    )


def _tags(ranking: Ranking) -> dict[str, Any]:
    use = ranking.use
    return {
        "supernet": use.supernet, "student_scale": use.student_scale, "seed": use.seed, "lam": use.lam,
        "teacher_seed": use.teacher_seed,
    }  # fmt: skip


def _subnet(ranking: Ranking) -> dict[str, Any]:
    row: Mapping[str, Any] = ranking.subnet or {}
    fields = ("scale", "measured_scale", "parameters", "flops", "metric", "metric_se")
    return _plain(_tags(ranking) | {field: row[field] for field in fields})


def _stage(stage: Mapping[str, Any], run: str, scales: Mapping[str, float | None]) -> dict[str, Any]:
    fields = ("key", "kind", "state", "seed", "flops", "device_seconds", "wall_seconds", "cpu_seconds", "inputs",
              "run", "trial", "message", "finished_at", "kept", "kept_bytes", "kept_dtype", "kept_error",
              "torch", "transformers", "cpu_capability", "device")  # fmt: skip
    scale = scales[stage["key"]]
    taught_by = settings_of(stage).teacher
    if stage["kept"] is not None and isinstance(taught_by, tuple):
        model, candidate = taught_by
        scale = scales.get(model) if candidate is None else candidate
    return _plain({field: stage[field] for field in fields} | {"scale": scale, "reused": stage["run"] != run})


def _trial(trial: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    row = next((row for row in rows if row.trial == trial["trial"]), None)
    fields = ("trial", "schedule", "path", "student_scale", "student_parameters", "lam", "initialisation", "seed",
              "state", "validation_metric", "student", "supernet", "test", "message", "teacher_seed",
              "arm", "rung")  # fmt: skip
    named = {"label": label_of(trial)}
    measured = {
        "test_metric": row.test_metric if row else None,
        "test_se": row.test_se if row else None,
        "search_flops": row.cost.flops if row and row.cost else None,
        "device_seconds": row.cost.device_seconds if row and row.cost else None,
        "selected": bool(row and row.selected),
        "on_front": bool(row and row.on_front),
        "stages_reused": len(trial["reused"] or ()),
    }
    return _plain({field: trial[field] for field in fields} | named | measured)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON can express them: None for infinity and for what is not a number."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
