"""A schedule from outside raydisc: the second supernet is that of an assistant from the first."""

from raydisc.schedules.base import Schedule
from raydisc.schedules.steps import Outcome
from raydisc.stages.artifact import Model


class Stepwise(Schedule):
    """The largest candidate becomes the teacher of a supernet of the others, from which the student comes."""

    name = "stepwise"
    assistants = 2

    def run(self, search):
        """Train all candidates once for all, those below the largest again towards it, and distil the student."""
        largest, *others = search.assistant_scales
        ready = yield from search.prepare()
        first = yield from search.once_for_all(ready, (largest, *others))
        assistant = Model(first, largest)
        second = yield from search.once_for_all(ready, tuple(others), teacher=assistant)
        student = yield from search.distil(ready, assistant, Model(second), search.student_scale)
        return Outcome(student, (largest,), "supernet", first)
