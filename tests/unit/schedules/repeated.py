"""A schedule from outside raydisc: assistants are chosen until the student's own scale has the best tradeoff."""

from itertools import combinations

from raydisc.schedules.base import Choice, Schedule
from raydisc.schedules.controls import KdEqualCompute
from raydisc.schedules.minidisc import MinidiscOptions, metrics_choosing
from raydisc.schedules.steps import Outcome
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.tradeoff import Measured, choose


class Repeated(Schedule):
    """As many assistants as the λ-tradeoff wants, from none to all of the grid."""

    name = "repeated"
    Options = MinidiscOptions
    controls = (KdEqualCompute,)

    def run(self, search):
        """Train candidates once for all, and distil along those that are chosen before the student's scale is."""
        ready = yield from search.prepare()
        supernet = yield from search.once_for_all(ready, search.assistant_scales)
        path = self._path(SupernetFacts.of(supernet).candidates, search.student_scale)
        teacher = Model(supernet, path[0]) if path else ready.teacher
        for scale in (*path[1:], search.student_scale):
            teacher = Model((yield from search.distil(ready, teacher, Model(supernet), scale)))
        return Outcome(teacher.artifact, path, "supernet", supernet)

    def choices(self, scales):
        """Return all paths that some metrics lead to."""
        *above, student = scales
        paths = [path for count in range(len(scales)) for path in combinations(above, count)]
        found = [Choice(path, metrics_choosing((*path, student), self.options.lam)) for path in paths]
        measured = [[Measured(scale, dict(choice.metrics).get(scale, 0.0)) for scale in scales] for choice in found]
        return [
            choice for choice, left in zip(found, measured, strict=True) if self._path(left, student) == choice.path
        ]

    def _path(self, left, student_scale):
        path = []
        while (best := choose(left, self.options.lam).scale) > student_scale:
            path.append(best)
            left = [candidate for candidate in left if candidate.scale < best]
        return tuple(path)
