"""The once-for-all stage: every candidate of the grid trained in one set of weights."""

from dataclasses import dataclass, field
from typing import ClassVar

from raydisc.config.sections import OnceForAllConfig
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.compute import compute_once_for_all


@dataclass(frozen=True)
class OnceForAll(Stage):
    """Train all candidates of the grid in one set of weights.

    Attributes:
        data: tokenised task.
        outputs: the teacher's, or None where it is to be run in every step.
        importance: the teacher's sorted weights and its units' scores.
        scales: of the candidates, the student's own included.
        config: how.
        objective: what is minimised.
        seed: of batches, dropout and the sandwich.
        lam: λ, where the assistant is chosen before the end, else None.
    """

    kind: ClassVar[str] = "once_for_all"
    version: ClassVar[int] = 4
    comes_first: ClassVar[bool] = True
    data: Artifact
    outputs: Artifact | None
    importance: Artifact
    scales: tuple[float, ...]
    # ``scales`` is what comes of the rule for candidates; there was no choice before the end
    config: OnceForAllConfig = field(metadata={"but": ("candidates",), "since": {"choose_at": 1.0}})
    objective: Objective
    seed: int
    lam: float | None

    def __post_init__(self) -> None:
        """Without λ nothing is chosen before the end, whatever the section says."""
        if self.lam is None:
            object.__setattr__(self, "config", self.config.model_copy(update={"choose_at": 1.0}))

    @property
    def batch_size(self) -> int:
        """See ``Stage``."""
        return self.config.batch_size

    def compute(self, context: Context) -> Result:
        """Train by the sandwich rule and evaluate the candidates."""
        return compute_once_for_all(self, context)

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return f"once-for-all {', '.join(format(scale, 'g') for scale in self.scales)}"
