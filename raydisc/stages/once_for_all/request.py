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
    """Train all candidates of the grid in one set of weights.

    Attributes:
        data: The tokenised task.
        outputs: The teacher's outputs, or None where the teacher is to be run in every step.
        importance: The teacher's sorted weights and its units' scores.
        scales: The scales of the candidates, the student's own included.
        config: The settings of the training.
        objective: The distance to the teacher that is minimised.
        seed: The seed of batches, dropout and the sandwich.
        lam: The λ of the choice, where the assistant is chosen before the end or the weights of the best tradeoff are
            kept; otherwise None, and the student's own metric decides which weights are best.
        teacher: The model that candidates are cut from and trained towards; None for the teacher of ``importance``.
    """

    kind: ClassVar[str] = "once_for_all"
    version: ClassVar[int] = 4
    comes_first: ClassVar[bool] = True
    data: Artifact
    outputs: Artifact | None
    importance: Artifact
    scales: tuple[float, ...]
    # ``scales`` is what comes of the rule for candidates; there was no choice before the end
    config: OnceForAllConfig = field(metadata={"but": ("candidates",), "since": {"choose_at": 1.0, **_SINCE}})
    objective: Objective
    seed: int
    lam: float | None
    teacher: Model | None = field(default=None, metadata={"since": None})

    def __post_init__(self) -> None:
        """Leave out a λ that chooses only at the end, and without λ the step of a choice."""
        if self.config.choose_at == 1.0 and self.config.keep == "last":
            object.__setattr__(self, "lam", None)
        if self.lam is None:
            object.__setattr__(self, "config", self.config.model_copy(update={"choose_at": 1.0}))

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
