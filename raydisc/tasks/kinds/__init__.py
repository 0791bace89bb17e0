"""Task kinds: classification, regression, tags for words and language, each an object in a file of its own."""

from raydisc.registry import Registry
from raydisc.tasks.kinds.base import TaskKind

TASK_KINDS: Registry[TaskKind] = Registry(
    "raydisc.task_kinds",
    "kind of task",
    TaskKind,
    shipped={
        "classification": "raydisc.tasks.kinds.classification:CLASSIFICATION",
        "regression": "raydisc.tasks.kinds.regression:REGRESSION",
        "tokens": "raydisc.tasks.kinds.tokens:TOKENS",
        "language": "raydisc.tasks.kinds.language:LANGUAGE",
    },
    classes=False,
)
"""Every kind by its name in artifacts."""


def task_kind(name: str) -> TaskKind:
    """Return the kind of a name.

    Raises:
        InputError: No kind has this name.
    """
    return TASK_KINDS.get(name)
