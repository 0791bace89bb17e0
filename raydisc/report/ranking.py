"""The candidates of each once-for-all of a run, ranked by the λ-tradeoff, and how sure the choice is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydisc.report.ledger import Ledger
from raydisc.report.rows import number, reference
from raydisc.report.stages import settings_of
from raydisc.report.uncertainty import indistinguishable, win_shares
from raydisc.stages.kinds import kind_named
from raydisc.tasks.metrics import METRICS
from raydisc.tradeoff import DEFAULT_LAM, break_points, rank, tradeoff

EPSILON = 1e-9  # scales closer than this are the same scale


@dataclass(frozen=True)
class Candidate:
    """A possible assistant in a ranking; the fields of a candidate in ``raydisc show --json``.

    Attributes:
        scale: Nominal scale.
        measured_scale: Share of the prunable parameters.
        parameters: Parameters of the whole model.
        flops: FLOPs of a forward pass, as the once-for-all stage states them.
        metric: Validation metric; not a number where it could not be computed.
        metric_se: Its standard error over validation examples.
        reference: What the metric is divided by in the tradeoff: the teacher's in a language task, else 1.
        tradeoff: ``m + λ (1 - s)``.
        place: 1 for the best tradeoff.
        win_share: Share of bootstrap resamples of the validation examples in which it is the best.
        chosen: Whether a schedule took it as an assistant.
        final_metric: Validation metric at the end of its training; None where others were trained on alone, or are to
            be.
    """

    scale: float
    measured_scale: float | None
    parameters: int | None
    flops: float | None
    metric: float
    metric_se: float | None
    reference: float
    tradeoff: float
    place: int
    win_share: float | None
    chosen: bool
    final_metric: float | None

    @property
    def size(self) -> float:
        """The scale that enters the tradeoff: the measured one, or the nominal one in rows of earlier versions."""
        return self.scale if self.measured_scale is None else self.measured_scale


@dataclass(frozen=True)
class Use:
    """One way in which a supernet is ranked: for which student, by which λ, for which teacher and seed."""

    supernet: str
    student_scale: float
    seed: int | None
    lam: float
    metric: str
    chosen: frozenset[float] = frozenset()
    teacher_seed: int | None = None


@dataclass(frozen=True)
class Ranking:
    """The candidates of one supernet that can be the assistant of one student.

    Attributes:
        use: What is ranked, and how.
        candidates: From place 1 on.
        steps: ``(λ from, λ to, scale)``: what each λ would choose.
        within_noise: Scales that cannot be told apart as the best (at least two), the likeliest first; else empty.
        subnet: Row of the student's own scale in the supernet, before it is distilled; None if it is not there.
        early: Whether λ had a part in the training, so that another λ would train another supernet.
    """

    use: Use
    candidates: tuple[Candidate, ...]
    steps: tuple[tuple[float, float, float], ...]
    within_noise: tuple[float, ...]
    subnet: Mapping[str, Any] | None
    early: bool


def uses(ledger: Ledger, trials: Iterable[Mapping[str, Any]], stages: Iterable[Mapping[str, Any]]) -> list[Use]:
    """Return how a run's supernets are used: by its trials with a λ, or before there is one, for the smallest scale.

    Args:
        ledger: Where candidates and metrics are.
        trials: The run's rows of ``trials``.
        stages: The run's rows of ``stages``.
    """
    chosen: dict[tuple[str, float, int | None, float], set[float]] = {}
    metrics: dict[str, str] = {}
    teachers: dict[str, int | None] = {}
    for trial in trials:
        if trial["supernet"] and trial["lam"] is not None:
            group = (trial["supernet"], trial["student_scale"], trial["seed"], trial["lam"])
            chosen.setdefault(group, set()).update(trial["path"] or ())
            metrics[trial["supernet"]] = trial["metric"]
            teachers[trial["supernet"]] = trial["teacher_seed"]
    found = [Use(*group, metrics[group[0]], frozenset(scales), teachers[group[0]]) for group, scales in chosen.items()]
    for stage in stages:
        unused = stage["state"] == "finished" and stage["key"] not in metrics
        kind = kind_named(stage["kind"])
        if unused and kind.supernet and not kind.finalist:
            found += _unused(ledger, stage)
    return sorted(found, key=lambda u: (-u.student_scale, u.teacher_seed or 0, u.seed or 0, u.lam, u.supernet))


def _unused(ledger: Ledger, stage: Mapping[str, Any]) -> list[Use]:
    """Return the use of a supernet that no finished trial with a λ has used: its smallest scale is the student's.

    λ is the one that had a part in its training, if one did.
    """
    trained_by = settings_of(stage).lam
    lam = DEFAULT_LAM if trained_by is None else trained_by
    scales = [row["scale"] for row in ledger.rows("candidates", keys=[stage["key"]])]
    evaluated = {row["metric"] for row in ledger.rows("metrics", keys=[stage["key"]], split="validation")}
    known = sorted(evaluated & set(METRICS.names()))  # a loss may stand beside the metric
    return [Use(stage["key"], min(scales), stage["seed"], lam, known[0])] if scales and known else []


def ranking(ledger: Ledger, use: Use) -> Ranking:
    """Rank the candidates above the student's scale."""
    rows = ledger.rows("candidates", keys=[use.supernet])
    eligible = [row for row in rows if row["scale"] > use.student_scale + EPSILON]
    shares = _shares(ledger, use, eligible)
    finals = _finals(ledger, use)
    unranked = [_candidate(row, use, shares, finals) for row in eligible]
    ranked = [dataclasses.replace(c, place=n) for n, c in enumerate(rank(unranked, use.lam), start=1)]
    alike = indistinguishable(shares)
    return Ranking(
        use=use,
        candidates=tuple(ranked),
        steps=tuple(break_points(ranked)),
        within_noise=tuple(alike) if len(alike) > 1 else (),
        subnet=next((row for row in rows if abs(row["scale"] - use.student_scale) <= EPSILON), None),
        early=any(settings_of(stage).lam is not None for stage in ledger.rows("stages", keys=[use.supernet])),
    )


def _finals(ledger: Ledger, use: Use) -> dict[float, Any]:
    """Return the metrics at the end of the training, by scale: of those trained on alone, where any were."""
    stages = ledger.rows("stages", state="finished")
    alone = [it["key"] for it in stages if kind_named(it["kind"]).finalist and use.supernet in (it["inputs"] or ())]
    found = ledger.rows("metrics", keys=alone or [use.supernet], split="validation")
    return {row["scale"]: row["value"] for row in found if row["step"] is None and row["metric"] == use.metric}


def _shares(ledger: Ledger, use: Use, rows: Sequence[Mapping[str, Any]]) -> dict[float, float]:
    """Win shares of candidates; nothing where the predictions of one of them are missing."""
    stored = {row["scale"]: ledger.predictions(use.supernet, "validation", row["scale"]) for row in rows}
    known = {scale: found for scale, found in stored.items() if found is not None}
    if not known or len(known) < len(stored):
        return {}
    _, labels = next(iter(known.values()))
    predictions = {scale: found[0] for scale, found in known.items()}
    sizes = {row["scale"]: number(row["measured_scale"]) or row["scale"] for row in rows}
    return win_shares(predictions, labels, use.metric, use.lam, reference=reference(rows[0]), sizes=sizes)


def _candidate(
    row: Mapping[str, Any], use: Use, shares: Mapping[float, float], finals: Mapping[float, float]
) -> Candidate:
    scale = float(row["scale"])
    metric = float("nan") if row["metric"] is None else float(row["metric"])
    return Candidate(
        scale=scale,
        measured_scale=number(row["measured_scale"]),
        parameters=row["parameters"],
        flops=number(row["flops"]),
        metric=metric,
        metric_se=number(row["metric_se"]),
        reference=reference(row),
        tradeoff=tradeoff(metric, number(row["measured_scale"]) or scale, use.lam, reference(row)),
        place=0,
        win_share=shares.get(scale),
        chosen=any(abs(scale - other) <= EPSILON for other in use.chosen),
        final_metric=number(finals.get(scale)),
    )
