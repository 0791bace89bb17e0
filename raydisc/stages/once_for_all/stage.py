"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from dataclasses import dataclass

from raydisc.stages.context import Context, Result
from raydisc.stages.once_for_all.compute import compute_once_for_all
from raydisc.stages.once_for_all.request import OnceForAllRequest


@dataclass(frozen=True)
class OnceForAll(OnceForAllRequest):
    """Train all candidates of the grid in one set of weights."""

    def compute(self, context: Context) -> Result:
        """Train by the sandwich rule and evaluate the candidates."""
        return compute_once_for_all(self, context)
