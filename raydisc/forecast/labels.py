"""What people call a stage."""

from collections.abc import Sequence

from raydisc.forecast.dry_run import Stage
from raydisc.report import formats
from raydisc.stages.requests import Distil, Evaluate, FineTune, Importance, Model, OnceForAll, Request, TeacherOutputs

CHOSEN = "chosen"
"""A candidate of a supernet that nobody has chosen yet."""


def label_of(ways: Sequence[Stage]) -> str:
    """A stage's label; ``ways`` is what it is for each way in which a trial's choices may fall."""
    labels = dict.fromkeys(_label(stage.request) for stage in ways)
    return next(iter(labels)) if len(labels) == 1 else _label(ways[0].request, CHOSEN)


def _label(request: Request, scale: str | None = None) -> str:
    match request:
        case FineTune():
            return "fine-tune the teacher" if request.finetune else "take in the teacher"
        case TeacherOutputs():
            return f"outputs of {_who(request.teacher)}"
        case Importance():
            return f"importance, {request.method}"
        case OnceForAll():
            return f"once-for-all {', '.join(map(formats.scale, request.scales))}"
        case Distil():
            taught = f"{_who(request.teacher)} → {scale or formats.scale(request.scale)}"
            if request.budget_flops is not None:
                return f"{taught}, equal compute"
            start = request.start.artifact.kind
            return f"{taught}, from the supernet" if start == "once_for_all" else taught
        case Evaluate():
            return "test of the student"
    return request.kind


def _who(model: Model) -> str:
    if model.artifact.kind == "once_for_all":
        return CHOSEN
    return formats.scale(model.artifact["scale"]) if model.artifact.kind == "distil" else "teacher"
