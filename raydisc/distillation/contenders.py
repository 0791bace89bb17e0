"""Contenders: which candidates once-for-all still trains, and whether it can end, by the λ-tradeoff so far.

Training less of the supernet than the paper does (arXiv 2205.14570, section 3.3, trains every candidate to the end)
is where a search saves; every rule here is a setting, so that what it costs in the choice can be measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raydisc.tradeoff import indistinguishable, kendall, rank, tradeoff


@dataclass(frozen=True)
class Evaluated:
    """A candidate's validation metric at one evaluation."""

    scale: float
    metric: float


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the contenders.

    Attributes:
        candidates: assistants that were evaluated.
        shares: for each scale the share of resamples of the validation rows in which it leads.
    """

    candidates: tuple[Evaluated, ...]
    shares: Mapping[float, float]


@dataclass(frozen=True)
class Race:
    """What decides between assistants.

    Attributes:
        scales: of all assistants on the grid, descending.
        lam: λ.
        ceiling: the teacher's validation metric, which no candidate is expected to exceed.
    """

    scales: tuple[float, ...]
    lam: float
    ceiling: float


@dataclass(frozen=True)
class Narrowing:
    """A rule that leaves candidates out.

    Attributes:
        start: the scales trained first.
        after: the scales trained after an evaluation, given those trained before it.
    """

    start: Callable[[Race], set[float]]
    after: Callable[[Race, set[float], Evaluation], set[float]]


def _everything(race: Race) -> set[float]:
    return set(race.scales)


def _smaller_half(race: Race) -> set[float]:
    return set(race.scales[len(race.scales) // 2 :])


def _able_to_win(race: Race, live: set[float], evaluation: Evaluation) -> set[float]:
    """Those that would rank before the best so far if they were as good as the teacher, and that one."""
    best = rank(evaluation.candidates, race.lam)[0]
    perfect = [Evaluated(scale, race.ceiling) for scale in race.scales]
    return {best.scale, *(found.scale for found in perfect if rank([found, best], race.lam)[0] is found)}


def _better_half(race: Race, live: set[float], evaluation: Evaluation) -> set[float]:
    """Successive halving (Jamieson & Talwalkar 2016): the better half by tradeoff, never fewer than one."""
    ranked = [candidate.scale for candidate in rank(evaluation.candidates, race.lam) if candidate.scale in live]
    return set(ranked[: (len(ranked) + 1) // 2])


def _every_second(race: Race) -> set[float]:
    return set(race.scales[::-2])


def _neighbours(race: Race, live: set[float], evaluation: Evaluation) -> set[float]:
    """The best so far and the scales next to it on the grid."""
    best = race.scales.index(rank(evaluation.candidates, race.lam)[0].scale)
    return set(race.scales[max(0, best - 1) : best + 2])


NARROWINGS = {
    "ceiling": Narrowing(_smaller_half, _able_to_win),
    "halving": Narrowing(_everything, _better_half),
    "neighbourhood": Narrowing(_every_second, _neighbours),
}
"""Every rule by the name it has in an experiment file."""


def contenders(race: Race, rules: Sequence[str], evaluations: Sequence[Evaluation]) -> list[float]:
    """The assistants to train after these evaluations, scales descending; all of them without rules.

    Of several rules each must let a candidate be trained; the best so far always is.
    """
    narrowings = [NARROWINGS[name] for name in rules]
    live = set(race.scales).intersection(*(narrowing.start(race) for narrowing in narrowings))
    for evaluation in evaluations:
        live = set(race.scales).intersection(*(narrowing.after(race, live, evaluation) for narrowing in narrowings))
    return sorted(live, reverse=True)


def settled(race: Race, evaluations: Sequence[Evaluation], correlation: float) -> bool:
    """Whether more training has stopped changing the ranking, as far as the validation rows can tell.

    The last two evaluations rank the assistants that both have alike (Kendall τ at least ``correlation``), and each
    one's leader is among the other's possible leaders (at least a twentieth of the resamples).
    """
    if len(evaluations) < 2:
        return False
    before, now = evaluations[-2:]
    if rank(now.candidates, race.lam)[0].scale not in indistinguishable(before.shares):
        return False
    if rank(before.candidates, race.lam)[0].scale not in indistinguishable(now.shares):
        return False
    earlier = {found.scale: tradeoff(found.metric, found.scale, race.lam) for found in before.candidates}
    later = {found.scale: tradeoff(found.metric, found.scale, race.lam) for found in now.candidates}
    both = sorted(earlier.keys() & later.keys())
    found = kendall([earlier[scale] for scale in both], [later[scale] for scale in both])
    return len(both) == 1 or (found is not None and found[0] >= correlation)
