"""The settings of how a stage is computed, most of which its key leaves out, since they do not change its result."""

import math
from dataclasses import dataclass

from raydisc.config.resources import ResourcesConfig
from raydisc.config.sections import TeacherOutputsConfig
from raydisc.models.precision import Precision


@dataclass(frozen=True)
class Execution:
    """The way a worker computes stages; made once from an experiment's resources, and handed on whole.

    Results do not depend on it, but for ``precision``, which enters keys by ``Arithmetic``, and ``micro_batches``,
    whose sums are rounded otherwise.

    Attributes:
        precision: The precision that models compute in.
        checkpointing: Whether a layer's activations are computed again in the backward instead of being kept. Dropout
            draws the same random numbers again, so that results are the same bits.
        offload: Whether the shards of weights are kept in the host's memory.
        micro_batches: The number of parts that a worker's share of a batch is cut into, computed one after another.
        checkpoint_every_s: Seconds between two checkpoints of a stage that is trained.
        outputs_in_memory: The most bytes of a model's outputs that are read from shared memory; larger ones are read
            from the storage in every step.
    """

    precision: Precision = "float32"
    checkpointing: bool = False
    offload: bool = False
    micro_batches: int = 1
    checkpoint_every_s: float = 60.0
    outputs_in_memory: float = math.inf

    @staticmethod
    def of(resources: ResourcesConfig, outputs: TeacherOutputsConfig, precision: Precision) -> "Execution":
        """Return the execution that an experiment asks for.

        Args:
            resources: The experiment's resources.
            outputs: Its settings of the outputs of teachers.
            precision: The precision that ``resources.precision`` comes to on the devices at hand.
        """
        return Execution(
            precision,
            resources.checkpointing,
            resources.offload,
            checkpoint_every_s=resources.checkpoint_every_s,
            outputs_in_memory=0.0 if outputs.source == "disk" else outputs.budget_gib * 2**30,
        )

    def reads_outputs_from(self, size: int) -> str:
        """Return whether kept outputs of a size in bytes are read from ``memory`` or from the ``disk``."""
        return "memory" if size <= self.outputs_in_memory else "disk"
