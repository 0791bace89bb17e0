"""A schedule: teacher → the middle of the grid → student."""

from raydisc.schedules.base import Mark, Schedule, Trial
from raydisc.schedules.steps import Outcome
from raydisc.stages.artifact import Model
from raydisc_outside.stage import TokenCounts


class Midway(Schedule):
    """One assistant, the middle candidate of the grid."""

    name = "midway"
    title = "Midway"
    mark = Mark("#117733", "P")
    place = 45
    assistants = 1

    def trials(self, above, student_scale, seed):
        """Make one trial, by way of the middle candidate."""
        yield Trial(self, student_scale, seed, (above[len(above) // 2],))

    def run(self, search):
        """Count the task's tokens, then distil the assistant from the teacher and the student from the assistant."""
        ready = yield from search.prepare()
        yield TokenCounts(ready.data)
        assistant = yield from search.distil(ready, ready.teacher, ready.teacher, search.path[0])
        student = yield from search.distil(ready, Model(assistant), Model(assistant), search.student_scale)
        return Outcome(student, search.path, "assistant")
