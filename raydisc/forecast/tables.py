"""The tables that show a plan."""

from collections.abc import Mapping
from typing import Any

from raydisc.report import formats
from raydisc.report.schedules import compared, oracle_schedule, title_of
from raydisc.report.table import Sheet, Style

_MIB, _GIB = 2**20, 2**30

_PARTS = ("weights", "gradients", "optimiser", "activations", "targets")
"""The parts of a footprint that have a column."""


def plan_sheets(plan: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of a plan in the order in which people read them."""
    return [_candidates(plan), _stages(plan), _schedules(plan), _fits(plan)]


def size(count: float | None) -> str:
    """Return bytes in the unit that suits them."""
    if count is None:
        return formats.DASH
    unit, one = ("GiB", _GIB) if count >= _GIB else ("MiB", _MIB)
    return f"{formats.significant(count / one)} {unit}"


def _range(bounds: Mapping[str, float], show: Any) -> str:
    """Return the expected value, and the range that it may lie in."""
    low, expected, high = (show(bounds[name]) for name in ("low", "expected", "high"))
    return expected if low == high else f"{expected} [{low}, {high}]"


def _candidates(plan: Mapping[str, Any]) -> Sheet:
    rows = plan["candidates"]
    lines = [
        [
            formats.scale(row["scale"]) + (" student" if row["student"] else ""),
            formats.decimal(row["measured_scale"]),
            formats.parameters(row["parameters"]),
            formats.flops(row["flops"]),
            formats.share(row["flops_share"]),
        ]
        for row in rows
    ]
    notes = [f"FLOPs of one forward of a row of {rows[0]['length']} tokens, the training rows' mean."]
    columns = ["<scale", "measured", "parameters", "a forward", "share"]
    return Sheet(f"{plan['name']}: candidates", columns, lines, notes=notes)


def _stages(plan: Mapping[str, Any]) -> Sheet:
    unit, one = formats.flop_unit(row["flops"]["high"] for row in plan["stages"])
    timed = "device_seconds" in plan["experiment"]
    lines = []
    for row in plan["stages"]:
        count = f" ({row['count']})" if row["count"] > 1 else ""
        lines.append([
            row["stage"] + count, formats.listed(row["schedules"]) if len(row["schedules"]) < 3 else "several",
            _range(row["flops"], lambda flops: formats.significant(flops / one)),
            *([_range(row["device_seconds"], formats.seconds)] if timed else []),
            size(row["stored_bytes"]["expected"]), size(row["peak_bytes"] or None),
        ])  # fmt: skip
    styles: list[Style] = ["" if row["searched"] else "dim" for row in plan["stages"]]
    columns = ["<stage", "<asked for by", unit, *(["device s"] if timed else []), "kept", "peak memory"]
    notes = [
        "Each stage once, of the first teacher and seed; (n) are n of a kind. Tokenising, the teacher's training and "
        "the reading of the test set do not belong to the cost of a search.",
        "Peak memory: weights, gradients, AdamW's moments and activations of one worker; a process's own half GiB and "
        "the kept outputs, which lie in shared memory, are not in it.",
    ]
    return Sheet(f"{plan['name']}: stages", columns, lines, styles, notes)


def _schedules(plan: Mapping[str, Any]) -> Sheet:
    rows = plan["schedules"]
    unit, one = formats.flop_unit(row["flops"]["high"] for row in rows)
    timed, priced = "device_seconds" in rows[0], "money" in rows[0]
    lines = [
        [
            row["label"] + ("" if row["asked"] else " *"), _path(row), formats.scale(row["student_scale"]),
            str(row["trials"]), _range(row["flops"], lambda flops: formats.significant(flops / one)),
            _range(row["relative_to_cheapest_path"], formats.times),
            *([_range(row["device_seconds"], hours)] if timed else []),
            *([_range(row["money"], lambda money: f"{money:,.2f}")] if priced else []),
        ]
        for row in rows
    ]  # fmt: skip
    beside = [schedule.name for schedule in compared()]
    styles: list[Style] = ["bold" if row["schedule"] in beside else "" for row in rows]
    columns = ["<schedule", "<assistants", "student", "trials", unit, "× cheapest path",
               *(["device hours"] if timed else []), *(["money"] if priced else [])]  # fmt: skip
    return Sheet(f"{plan['name']}: what each search costs", columns, lines, styles, _notes(plan), keys=3)


def hours(seconds: float) -> str:
    """Return seconds as hours."""
    return formats.significant(seconds / 3600, 2)


def _path(row: Mapping[str, Any]) -> str:
    """Return the assistants, or, of several possible ones, the first and the last."""
    known = [formats.path(path) for path in row["assistants"] if path]
    if not known:
        return formats.DASH
    between = " … " if len(known) > 2 else " or "
    return known[0] if len(known) == 1 else f"{known[0]}{between}{known[-1]}"


def _notes(plan: Mapping[str, Any]) -> list[str]:
    rows, total = plan["schedules"], plan["experiment"]
    dearest = {
        row["student_scale"]: row["relative_to_cheapest_path"]["expected"] / row["relative_to_dearest_path"]["expected"]
        for row in rows
        if row["relative_to_dearest_path"]["expected"]
    }
    between = "; ".join(f"student {scale:g}: {ratio:.2f}" for scale, ratio in dearest.items())
    notes = [
        "As if each had run alone, from the finished teacher to the student; the mean over teachers and seeds. Which "
        "assistant is chosen is known afterwards: in brackets the smallest and the largest cost over all that can be, "
        "before them their mean. Nothing is taken to stop early.",
        f"The cheapest path is {title_of(oracle_schedule())}'s with the smallest assistant. The oracle path, known "
        f"afterwards, costs between 1 and this many of it: {between}.",
    ]
    if any(not row["asked"] for row in rows):
        notes.append(
            f"* Not in the file: shown since {' and '.join(title_of(it.name) for it in compared())} are to be compared "
            "before either is paid for."
        )
    spent = f"{formats.flops(total['flops']['expected'])}, {size(total['stored_bytes']['expected'])} kept"
    if "device_seconds" in total:
        spent += f", {_range(total['device_seconds'], hours)} device hours"
    if "money" in total:
        spent += f", {_range(total['money'], lambda money: f'{money:,.2f}')} money"
    notes.append(f"The whole run, all teachers, seeds and tests included, each stage once: {spent}.")
    if "probe" in plan:
        notes.append(
            f"Seconds are those of {plan['probe']['device']}, undisturbed: {plan['probe']['samples']} blocks of steps "
            f"were timed, which the fit meets within {plan['probe']['error']:.0%} on average."
        )
    return notes


def _fits(plan: Mapping[str, Any]) -> Sheet:
    lines, notes = [], []
    for row in plan["fits"]:
        fit = row["fit"]
        lines.append([
            row["stage"], *(size(row[part]) for part in _PARTS),
            formats.DASH if row["fewest_workers"] is None else str(row["fewest_workers"]),
            _laid_out(fit), size(fit["bytes"] if fit else None),
        ])  # fmt: skip
        if row["refusal"]:
            notes.append(f"{row['stage']}: {row['refusal']}.")
    columns = ["<heaviest stage of a kind", "weights", "gradients", "AdamW", "activations", "teacher's outputs",
               "workers needed", "<laid out as", "a worker"]  # fmt: skip
    notes.append("Parts do not all live at once on one worker; on several they are added up, to be on the safe side.")
    return Sheet(f"{plan['name']}: memory, on {plan['devices']['name']}", columns, lines, notes=notes)


def _laid_out(fit: Mapping[str, Any] | None) -> str:
    if fit is None:
        return "does not fit"
    late = ", synchronised after each candidate" if fit["synchronises"] == "candidate" else ""
    return {
        "single": "one worker",
        "data": f"{fit['replicate']} replicas",
        "shard": f"{fit['shard']} shards",
        "hybrid": f"{fit['replicate']} replicas of {fit['shard']} shards",
    }[fit["kind"]] + late
