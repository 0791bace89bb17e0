"""KD, TAKD and the paths of MaxiDisc: distil along given assistants."""

from raydisc.schedules.search import Outcome, Schedule, Search
from raydisc.stages.artifact import Artifact, Model


def along(search: Search, path: tuple[float, ...]) -> Schedule[Outcome]:
    """Teacher → assistants → student, each cut from the one that teaches it.

    The empty path is KD (Hinton et al. 2015, arXiv 1503.02531); a given one is TAKD (Mirzadeh et al. 2019,
    arXiv 1902.03393); MaxiDisc (arXiv 2205.14570, section 3.1) tries every path of the grid, one trial each.
    """
    ready = yield from search.prepare()
    teacher = ready.teacher
    own: list[Artifact] = []
    for scale in (*path, search.student_scale):
        start = ready.teacher if search.from_teacher else teacher
        own.extend((yield from search.distil(ready, teacher, start, scale)))
        teacher = Model(own[-1])
    initialisation = "assistant" if path and not search.from_teacher else "teacher"
    return Outcome(own[-1], path, initialisation, tuple(own))
