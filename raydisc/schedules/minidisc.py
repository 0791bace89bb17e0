"""MiniDisc: one trial (arXiv 2205.14570, section 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from raydisc.schedules.search import Outcome, Schedule, Search
from raydisc.stages.artifact import Model
from raydisc.tradeoff import Measured, choose


def minidisc(search: Search, lam: float, assistants: int, reinvest: bool) -> Schedule[Outcome]:
    """Train candidates once for all, pick the assistant by the λ-tradeoff, distil assistant → student.

    Only the student is trained in the last stage; where what was saved is reinvested, until the search has cost what
    the cheapest path of the grid, that of its smallest assistant, costs alone. With more than one assistant the choice
    is repeated among the candidates between the last assistant and the student, and nothing is reinvested.
    """
    ready = yield from search.prepare()
    own = list((yield from search.once_for_all(ready, lam, assistants)))
    supernet = own[-1]
    path = choose_path(supernet["candidates"], lam, assistants, search.student_scale)
    teacher = Model(supernet, path[0])
    cheapest = Model(supernet, search.assistant_scales[-1]) if reinvest and assistants == 1 else None
    for scale in (*path[1:], search.student_scale):
        start = ready.teacher if search.from_teacher else Model(supernet)
        own.extend((yield from search.distil(ready, teacher, start, scale, instead_of=cheapest)))
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
    left = [Measured.of(row) for row in candidates if row["scale"] > student_scale]
    while left and len(path) < assistants:
        path.append(choose(left, lam).scale)
        left = [candidate for candidate in left if candidate.scale < path[-1]]
    return tuple(path)
