"""``raydisc show`` for people: what ``show`` returns, as tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from raydisc.report import formats
from raydisc.report.conclusion import verdict_sheets
from raydisc.report.recommendation_text import page_sheet
from raydisc.report.rows import grouped
from raydisc.report.schedules import has_fronts
from raydisc.report.table import Sheet, Style, print_lines, print_sheets
from raydisc.tasks.metrics import shown_as

Shown = Mapping[str, Any]


def render_show(shown: Shown, file: IO[str] | None = None, plain: bool = False) -> None:
    """Print what ``raydisc.report.show.show`` returned: coloured on a terminal, aligned text elsewhere."""
    file = file or sys.stdout
    print_sheets(show_sheets(shown), file, plain)
    print_lines([f"Notice: {notice}." for notice in shown["notices"]], file)


def show_sheets(shown: Shown) -> list[Sheet]:
    """Return the tables of a run, which are stages, the candidates of each supernet and trials, and its verdicts."""
    told = [effect["sentence"] for effect in shown["effects"]]
    sheets = [stage_sheet(shown), *candidate_sheets(shown), trial_sheet(shown)]
    sheets += verdict_sheets(shown["run"], told, shown["conclusion"])
    sheets += map(page_sheet, shown["recommendations"])
    return [sheet for sheet in sheets if not sheet.is_empty]


def stage_sheet(shown: Shown) -> Sheet:
    """Return every stage with its cost, and where outputs are kept."""
    columns = ["<stage", "<key", "scale", "<state", "seed", "FLOPs", "device s", "wall s", "CPU s", "<computed by",
               "<kept"]  # fmt: skip
    lines = [
        [
            stage["kind"],
            stage["key"][:12],
            formats.scale(stage["scale"]),
            stage["state"],
            formats.DASH if stage["seed"] is None else str(stage["seed"]),
            formats.flops(stage["flops"]),
            formats.seconds(stage["device_seconds"]),
            formats.seconds(stage["wall_seconds"]),
            formats.seconds(stage["cpu_seconds"]),
            f"run {stage['run']}" if stage["reused"] else "this run",
            _kept(stage),
        ]
        for stage in shown["stages"]
    ]
    styles: list[Style] = ["dim" if stage["reused"] else "" for stage in shown["stages"]]
    spent = shown["spent"]
    note = (
        f"This run itself computed {formats.flops(spent['flops'])} in {formats.seconds(spent['device_seconds'])} "
        "device-seconds; what it found in the store is not in that sum."
    )
    return Sheet(f"{shown['run']}: stages", columns, lines, styles, [note], keys=2)


def _kept(stage: Mapping[str, Any]) -> str:
    if stage["kept"] is None:
        return ""
    size = f"{stage['kept']}, {stage['kept_bytes'] / 2**20:,.1f} MiB"
    if stage["kept_error"] is None:
        return size
    return f"{size}, {stage['kept_dtype']} (error {stage['kept_error']:.1e})"


def candidate_sheets(shown: Shown) -> list[Sheet]:
    """Return the ranking of each supernet's candidates."""
    rankings = grouped(shown["candidates"], _ranked_by)
    return [_ranking(shown, group, members) for group, members in rankings.items()]


def trial_sheet(shown: Shown) -> Sheet:
    """Return every trial with its student."""
    derived = shown_as(shown["metric"] or "")
    several = any(trial["teacher_seed"] is not None for trial in shown["trials"])
    searched = any(has_fronts(trial["schedule"]) for trial in shown["trials"])
    columns = ["<schedule", "<path", "student", "params", *(["teacher"] if several else []), "seed", "<first weights",
               "validation", "test",
               *([derived.name] if derived else []), "FLOPs", "device s", "<student's key", "<state",
               *(["<front"] if searched else [])]  # fmt: skip
    lines = [
        [
            trial["label"] + (f": {trial['arm']}, rung {trial['rung']}" if trial["arm"] else ""),
            formats.path(trial["path"] or ()),
            formats.scale(trial["student_scale"]),
            formats.parameters(trial["student_parameters"]),
            *([str(trial["teacher_seed"])] if several else []),
            str(trial["seed"]),
            trial["initialisation"] or formats.DASH,
            formats.decimal(trial["validation_metric"]),
            formats.with_error(trial["test_metric"], trial["test_se"]),
            *([formats.derived(derived, trial["test_metric"])] if derived else []),
            formats.flops(trial["search_flops"]),
            formats.seconds(trial["device_seconds"]),
            (trial["student"] or formats.DASH)[:12],
            trial["state"],
            *(["on the front" if trial["on_front"] and has_fronts(trial["schedule"]) else ""] if searched else []),
        ]
        for trial in shown["trials"]
    ]
    styles: list[Style] = ["bold" if trial["selected"] else "" for trial in shown["trials"]]
    teacher = shown["teacher"]
    measured = formats.with_error(teacher["test_metric"], teacher["test_se"])
    if derived:
        measured += f", {derived.name} {formats.derived(derived, teacher['test_metric'])}"
    notes = [
        f"{'Teachers, on average' if several else 'Teacher'}: validation "
        f"{formats.decimal(teacher['validation_metric'])}, test {measured}. "
        "± is the standard error over examples."
    ]
    return Sheet(
        f"{shown['run']}: trials ({shown['metric']} on {shown['task']})",
        columns,
        lines,
        styles,
        notes,
        keys=5 + several,
    )


def _ranked_by(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["supernet"], row["student_scale"], row["teacher_seed"], row["seed"], row["lam"]


def _ranking(shown: Shown, group: tuple[Any, ...], members: Sequence[Mapping[str, Any]]) -> Sheet:
    supernet, student_scale, teacher_seed, seed, lam = group
    columns = ["place", "scale", "measured", "params", "validation", "tradeoff", "best in", "<"]
    steps = [step for step in shown["break_points"] if _ranked_by(step) == group]
    early = any(step["early"] for step in steps)
    lines = [_candidate(member) for member in members]
    if any(member["final_metric"] is None for member in members):
        lines = [[*line[:-1], _end(member)] for line, member in zip(lines, members, strict=True)]
    styles: list[Style] = ["bold" if member["chosen"] else "" for member in members]
    subnets = [row for row in shown["subnets"] if _ranked_by(row) == group]
    lines += [[*_candidate(_UNRANKED | row)[:-1], "the student's own scale"] for row in subnets]
    styles += ["dim"] * len(subnets)
    title = (
        f"{shown['run']}: candidates for the student at {formats.scale(student_scale)}, "
        f"{formats.replicate(teacher_seed, seed)}, by m + {lam:g}(1 - s), supernet {supernet[:12]}"
    )
    anew = ["λ had a part in the training, so that another one trains another supernet."] if early else []
    notes = [_best_in(members), sweep(steps), *anew]
    return Sheet(title, columns, lines, styles, notes, keys=2)


_UNRANKED = {"place": None, "tradeoff": None, "win_share": None, "chosen": False}


def _candidate(row: Mapping[str, Any]) -> list[str]:
    return [
        formats.DASH if row["place"] is None else str(row["place"]),
        formats.scale(row["scale"]),
        formats.decimal(row["measured_scale"]),
        formats.parameters(row["parameters"]),
        formats.with_error(row["metric"], row["metric_se"]),
        formats.decimal(row["tradeoff"]),
        formats.share(row["win_share"]),
        "chosen" if row["chosen"] else "",
    ]


def _end(row: Mapping[str, Any]) -> str:
    """Return how training ended for a candidate where some were trained on alone."""
    return f"trained on, to {formats.decimal(row['final_metric'])}" if row["final_metric"] is not None else ""


def _best_in(members: Sequence[Mapping[str, Any]]) -> str:
    if all(member["win_share"] is None for member in members):
        return "No predictions are stored, so it is not known how certain the choice is."
    return (
        "Best in: the share of paired bootstrap resamples of the validation examples in which the candidate has the "
        "best tradeoff; ties go to the smaller scale."
    )


def sweep(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence that says which scale each λ would choose."""
    told = [
        f"{formats.scale(step['scale'])} for "
        + (
            f"λ ≥ {step['lam_from']:.3g}"
            if step["lam_to"] is None
            else f"{step['lam_from']:.3g} ≤ λ < {step['lam_to']:.3g}"
        )
        for step in steps
    ]
    return f"Chosen as a function of λ: {'; '.join(told)}."
