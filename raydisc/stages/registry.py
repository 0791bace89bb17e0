"""The registry of the classes of stages."""

from raydisc.registry import Registry
from raydisc.stages.base import Stage
from raydisc.stages.kinds import KINDS

STAGES: Registry[type[Stage]] = Registry(
    "raydisc.stages",
    "kind of stage",
    Stage,
    shipped={name: kind.place for name, kind in KINDS.items()},
    key="kind",
)
"""The classes of stages by kind; to ask for one imports it."""
