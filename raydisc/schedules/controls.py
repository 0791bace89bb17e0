"""Controls: what must stand beside MiniDisc before anything is said of it."""

from raydisc.schedules.minidisc import minidisc
from raydisc.schedules.search import Outcome, Schedule, Search
from raydisc.stages.artifact import Model


def kd_equal_compute(search: Search, lam: float, assistants: int, reinvest: bool) -> Schedule[Outcome]:
    """KD whose search costs as many FLOPs as MiniDisc's: the same shape stretched, no early stop."""
    rival = yield from minidisc(search, lam, assistants, reinvest)
    cost = sum(artifact.flops for artifact in rival.own)
    ready = yield from search.prepare()
    own = yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale, budget_flops=cost)
    return Outcome(own[-1], (), "teacher", own)


def kd_supernet_init(search: Search, lam: float, assistants: int) -> Schedule[Outcome]:
    """KD whose student is cut from MiniDisc's supernet: the same initialisation, no assistant."""
    ready = yield from search.prepare()
    trained = yield from search.once_for_all(ready, lam, assistants)
    distilled = yield from search.distil(ready, ready.teacher, Model(trained[-1]), search.student_scale)
    asked = {artifact.key for artifact in trained}
    own = (*trained, *(artifact for artifact in distilled if artifact.key not in asked))
    return Outcome(own[-1], (), "supernet", own, trained[-1])
