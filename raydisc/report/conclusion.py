"""The conclusion of a run: whether an assistant or a search paid beside KD with equal compute, as far as was seen."""

from __future__ import annotations

from collections.abc import Sequence

from raydisc.report import formats
from raydisc.report.effects import EstimatedEffect, scope
from raydisc.report.intervals import Interval
from raydisc.report.rows import Row, grouped
from raydisc.report.schedules import control_labels
from raydisc.report.table import Sheet

KD = "KD with equal compute"


def conclusions(rows: Sequence[Row], effects: Sequence[EstimatedEffect]) -> list[str]:
    """Return the sentences that end the tables of one run, for each student and each schedule with controls.

    Args:
        rows: Of ``raydisc.report.compare.comparison``, of one run.
        effects: What was estimated from them.
    """
    found: list[str] = []
    for (scale, label), members in grouped(rows, lambda r: (r.student_scale, r.label)).items():
        if control_labels(members[0]):
            mine = [it for it in effects if (it.student_scale, it.label) == (scale, label)]
            found.append(f"Student {formats.scale(scale)}: {_concluded(label, mine)}")
    return found


def verdict_sheets(run: str, effects: Sequence[str], concluded: Sequence[str]) -> list[Sheet]:
    """Return the sentences on effects and those of the conclusion, each under a title."""
    return [
        Sheet.of_sentences(f"{run}: what the controls tell apart", effects),
        Sheet.of_sentences(f"{run}: conclusion", concluded),
    ]


def _concluded(label: str, effects: Sequence[EstimatedEffect]) -> str:
    by_part = grouped(effects, lambda it: it.effect.part)
    [whole] = by_part.get("whole", [None])
    if whole is None or whole.interval.low is None:
        lacking = f"{KD} did not run beside it" if whole is None else "there are no predictions and so no interval"
        return f"there is no verdict on {label}, since {lacking}."
    if whole.interval.runs == 1:
        return (
            "there is no verdict, since one teacher with one seed gives none. On these test rows, with this teacher, "
            f"{_standing(label, whole.interval, 'is ahead of')}."
        )
    teaching, weights = (by_part.get(part, []) for part in ("teaching", "initial_weights"))
    sentences = [_on_the_assistant(label, whole.interval, teaching)]
    if searching := by_part.get("searching"):
        sentences.append(_on_the_search(searching, whole.interval))
    unclear = [it.effect.noun for it in (*teaching, *weights) if not _carries(it, whole.interval)]
    if unclear:
        sentences.append(f"What cannot be told: the effect of {formats.listed(unclear)}.")
    return " ".join(sentences)


def _carries(effect: EstimatedEffect, whole: Interval) -> bool:
    """Whether an effect leaves out 0, over several replicates and, where the whole is, over several teachers."""
    found = effect.interval
    return found.decides and found.runs > 1 and (found.teachers > 1 or whole.teachers == 1)


def _standing(label: str, whole: Interval, better: str) -> str:
    """Return how a schedule stands beside KD; ``better`` is the verb that the replicates allow."""
    if whole.is_certain:
        return f"{label} and {KD} are the same on every resample"
    if not whole.decides:
        return f"{label} and {KD} cannot be told apart (the difference is {formats.points(whole, ' points')})"
    first, second = (label, KD) if whole.mean > 0 else (KD, label)
    return f"{first} {better} {second}"


def _on_the_assistant(label: str, whole: Interval, teaching: Sequence[EstimatedEffect]) -> str:
    """Return whether the tables support an assistant, by the whole schedule and by the model distilled from."""
    stands = _standing(label, whole, "is better than") + scope(whole)
    carries = any(_carries(it, whole) for it in teaching)
    helps = carries and teaching[0].interval.mean > 0
    if not whole.decides or whole.mean < 0:
        good = "" if whole.decides else f", and {KD} is as good to within {formats.within(whole)} points"
        despite = (
            ". Yet from the same first weights, distilling from the assistant is better than from the teacher"
            if helps
            else ""
        )
        return f"{stands}: the tables do not support an assistant{good}{despite}."
    if not carries:
        return f"{stands}, but whether the assistant has a part in that cannot be told."
    if not helps:
        return (
            f"{stands}, but not by its assistant: from the same first weights, distilling from the teacher is better."
        )
    return f"{stands}, and the assistant has a part in that: the tables support an assistant."


def _on_the_search(effects: Sequence[EstimatedEffect], whole: Interval) -> str:
    """Return whether the tables support a search, beside assistants that nobody chose."""
    ahead = [it for it in effects if _carries(it, whole) and it.interval.mean > 0]
    behind = [it for it in effects if _carries(it, whole) and it.interval.mean < 0]
    unclear = [it for it in effects if it not in ahead and it not in behind]
    if behind:
        return f"They do not support a search: {_named(behind)}, chosen by nobody, is better{scope(whole)}."
    if unclear:
        return f"They do not support a search: it cannot be told apart from {_named(unclear)}, chosen by nobody."
    return f"They support a search: it is better than {_named(ahead)}, chosen by nobody{scope(whole)}."


def _named(effects: Sequence[EstimatedEffect]) -> str:
    return formats.listed([it.effect.noun for it in effects])
