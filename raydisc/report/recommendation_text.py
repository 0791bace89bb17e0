"""The page of a recommendation in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from raydisc.report import formats
from raydisc.report.extrapolation import Expected
from raydisc.report.recommendation import Estimated, Page, Standing
from raydisc.report.table import Sheet
from raydisc.schedules.arms import ARMS

_SHARED = {"importance": "importance", "teacher_outputs": "the outputs of teachers", "once_for_all": "the supernet",
           "finalist": "the chosen candidate", "distil": "distillation"}  # fmt: skip


def page_json(page: Page) -> dict[str, Any]:
    """Return a page as JSON values, its sentences included."""
    return {**dataclasses.asdict(page), "sentences": sentences(page)}


def page_sheet(page: Mapping[str, Any]) -> Sheet:
    """Return a page, as ``page_json`` gives it, as a sheet of sentences."""
    by = formats.replicate(page["teacher_seed"], page["seed"])
    title = f"{page['run']}: recommended student at scale {formats.scale(page['student_scale'])} ({by})"
    return Sheet.of_sentences(title, page["sentences"])


def sentences(page: Page) -> list[str]:
    """Return the page, a sentence or two in each line."""
    return [
        _student(page),
        *([_alone(page)] if page.rungs == 1 else [_rung(page, number + 1) for number in range(page.rungs - 1)]),
        *_why(page),
        _spent(page),
        *_twice(page),
    ]


def _title(arm: str) -> str:
    return ARMS[arm].title if arm in ARMS else arm


def _value(found: Estimated) -> str:
    told = formats.decimal(found.value)
    if found.interval is None:
        return told
    low, high = map(formats.decimal, found.interval)
    return f"{told} [{low}, {high}]"


def _student(page: Page) -> str:
    if page.trial is None or page.arm is None or page.validation is None:
        return "No student is finished yet; what follows is what the rungs have shown until now."
    test = "its test rows have not been read" if page.test is None else f"{_value(page.test)} on test"
    return (
        f"Ship the student of {page.trial} ({_title(page.arm)}), which lies in {page.place}. Its {page.metric} is "
        f"{_value(page.validation)} on validation, {test} (intervals of 95 % over the examples)."
    )


def _alone(page: Page) -> str:
    arm = page.arm or page.standings[0].arm
    return (
        f"{_title(arm)} had the whole budget: nothing was compared, since the budget is too small for two arms, or a "
        "single one was asked for."
    )


def _rung(page: Page, rung: int) -> str:
    found = page.on(rung)
    if not found:
        return f"Rung {rung} has not been reached."
    cost = max(it.flops for it in found)
    return f"Rung {rung}, after {formats.flops(cost)} of an arm: {'; '.join(map(_standing, found))}."


def _standing(it: Standing) -> str:
    if it.metric is None:
        return f"{_title(it.arm)} has failed or is not finished"
    return f"{_title(it.arm)} {formats.with_error(it.metric.value, it.metric.se)}, {_reason(it)}"


def _reason(it: Standing) -> str:
    gap = f"{100 * it.behind:.1f} ±{100 * it.behind_se:.1f} points behind"
    stands = "the best" if it.behind == 0.0 else f"{gap}, so not to be told from the best" if it.is_alike else gap
    if it.goes_on is None:
        return stands
    out = "but others that cannot be told apart come first" if it.is_alike else "falls out"
    return f"{stands}, {'goes on' if it.goes_on else out}"


def _why(page: Page) -> list[str]:
    """Return why this arm was finished, and whether it could be told from the others."""
    rungs = [page.on(number + 1) for number in range(page.rungs - 1)]
    last = next((found for found in reversed(rungs) if len(found) > 1), None)
    if page.arm is None or last is None:
        return []
    mine = next((it for it in last if it.arm == page.arm), None)
    rivals = [it for it in last if it.is_alike and it.arm != page.arm]
    if mine is None or mine.metric is None:
        return []
    if rivals:
        names = formats.listed([_title(it.arm) for it in rivals])
        come = "the prior decided" if mine.is_alike else "they failed later"
        return [
            f"Why this one: on the last rung with several arms it could not be told apart from {names}, and {come}. "
            "The difference between them is not known to be more than noise."
        ]
    return [
        "Why this one: on the last rung with several arms it was ahead of all others by more than a standard error."
    ]


def _spent(page: Page) -> str:
    whole = sum(page.spent.values())
    parts = [f"{formats.flops(flops)} for {_what(name)}" for name, flops in page.spent.items() if flops > 0]
    budget = formats.flops(page.budget_flops)
    return f"Of a budget of {budget}, {formats.flops(whole)} were spent: {formats.listed(parts)}."


def _what(name: str) -> str:
    return f"the arm {_title(name)}" if name in ARMS else _SHARED.get(name, name)


def _twice(page: Page) -> list[str]:
    """Return what twice the budget would buy, the arm that was finished first."""
    arms = sorted(page.twice, key=lambda arm: arm != page.arm)
    told = [f"{_title(arm)} {_expected(page.twice[arm])}" for arm in arms]
    if not told:
        return []
    return [
        f"With twice the budget, by a line over the logarithm of FLOPs: {'; '.join(told)}. Rungs before the last lie "
        "in the middle of the learning rate's course, so that the line says little where there are few of them."
    ]


def _expected(found: Expected | None) -> str:
    if found is None:
        return "not known, from one point"
    if found.low is None or found.high is None:
        return f"{formats.decimal(found.metric)}, of unknown error"
    bounds = f"[{formats.decimal(found.low)}, {formats.decimal(found.high)}]"
    few = " (two points: by the noise of examples alone)" if found.points == 2 else ""
    return f"{formats.decimal(found.metric)} {bounds}{few}"
