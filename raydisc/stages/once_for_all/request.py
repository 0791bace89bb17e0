"""The request for a once-for-all stage: its inputs, its settings and its key."""

from dataclasses import dataclass, field
from typing import ClassVar

from raydisc.config.sections import OnceForAllConfig
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import Stage
from raydisc.stages.objective import Objective

_SINCE = {"keep": "last", "step_loss": "sum"}


@dataclass(frozen=True)
class OnceForAllRequest(Stage):
    """Train all candidates of the grid in one set of weights: to the end, or up to the choice of one of them.

    Attributes:
        data: The tokenised task.
        outputs: The teacher's outputs, or None where the teacher is to be run in every step.
        importance: The teacher's sorted weights and its units' scores.
        scales: The scales of the candidates, the student's own included.
        config: The settings of the training.
        objective: The distance to the teacher that is minimised.
        seed: The seed of batches, dropout and the sandwich.
        lam: The λ of the tradeoff, where the weights of the best one are kept (``config.keep``); None where the
            student's own metric decides which weights are best, and where those of the last step are kept.
        teacher: The model that candidates are cut from and trained towards; None for the teacher of ``importance``.
    """

    kind: ClassVar[str] = "once_for_all"
    version: ClassVar[int] = 4
    comes_first: ClassVar[bool] = True
    data: Artifact
    outputs: Artifact | None
    importance: Artifact
    scales: tuple[float, ...]
    # ``scales`` is what comes of the rule for candidates; once all were trained to the end
    config: OnceForAllConfig = field(metadata={"but": ("candidates",), "since": {"choose_at": 1.0, **_SINCE}})
    objective: Objective
    seed: int
    lam: float | None
    teacher: Model | None = field(default=None, metadata={"since": None})

    def __post_init__(self) -> None:
        """Leave out a λ that has no part in the training."""
        if self.config.keep == "last":
            object.__setattr__(self, "lam", None)

    @property
    def origin(self) -> Model:
        """The model that candidates are cut from and trained towards."""
        return self.teacher or Model(self.importance)

    @property
    def scales_to_choose(self) -> tuple[float, ...]:
        """See ``Stage``."""
        return self.scales

    @property
    def batch_size(self) -> int:
        """See ``Stage``."""
        return self.config.batch_size

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return f"once-for-all {', '.join(format(scale, 'g') for scale in self.scales)}"
