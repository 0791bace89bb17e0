"""MiniDisc: one trial (arXiv 2205.14570, section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydisc.schedules.search import Outcome, Schedule, Search
from raydisc.stages.requests import Model
from raydisc.tradeoff import choose


def minidisc(search: Search, lam: float, assistants: int, reinvest: bool) -> Schedule[Outcome]:
    """Train all candidates once for all, pick the assistant by the λ-tradeoff, distil assistant → student.

    Only the student is trained in the last stage, for longer where what once-for-all saved is reinvested. With more
    than one assistant the choice is repeated among the candidates between the last assistant and the student.
    """
    ready = yield from search.prepare()
    supernet = yield search.once_for_all(ready, lam, assistants)
    path = choose_path(supernet["candidates"], lam, assistants, search.student_scale)
    teacher, own = Model(supernet, path[0]), [supernet]
    for scale in (*path[1:], search.student_scale):
        start = ready.teacher if search.from_teacher else Model(supernet)
        extra = supernet["saved_flops"] if reinvest and scale == search.student_scale else 0.0
        own.extend((yield from search.distil(ready, teacher, start, scale, extra_flops=extra)))
        teacher = Model(own[-1])
    initialisation = "teacher" if search.from_teacher else "supernet"
    return Outcome(own[-1], path, initialisation, tuple(own), supernet, lam)


def choose_path(
    candidates: Sequence[Mapping[str, Any]], lam: float, assistants: int, student_scale: float
) -> tuple[float, ...]:
    """The scales of the best candidate above the student's, then of the best below that, and so on.

    Fewer than ``assistants`` where the candidates run out.
    """
    path: list[float] = []
    left = [_Scored(row["scale"], row["metric"]) for row in candidates if row["scale"] > student_scale]
    while left and len(path) < assistants:
        path.append(choose(left, lam).scale)
        left = [candidate for candidate in left if candidate.scale < path[-1]]
    return tuple(path)


@dataclass(frozen=True)
class _Scored:
    scale: float
    metric: float
