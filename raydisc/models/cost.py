"""FLOPs of a forward, by formula."""

from dataclasses import dataclass

from torch import nn

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.structure import Structure
from raydisc.models.task_heads import HeadReads, head_of

STEP_FORWARDS = 3
"""A training step in forwards: the backward multiplies once for the weights and once for the inputs."""

SCORE_FORWARDS = STEP_FORWARDS - 1
"""Gradient importance in forwards: parameters are frozen, so that the backward multiplies for the inputs alone."""


@dataclass(frozen=True)
class ForwardCost:
    """The matrix-multiply FLOPs of a forward of a teacher, and of any model that keeps parts of it.

    Attributes:
        layers: The units of the teacher's layers.
        head: The weights of the linears outside the transformer layers (pooler, classifier), by what they read.
    """

    layers: tuple[LayerUnits, ...]
    head: HeadReads

    @staticmethod
    def of(model: nn.Module, config: Config) -> "ForwardCost":
        """Read the cost from the teacher, or from any model that keeps parts of it."""
        layers = layers_of(config)
        prunable = {linear.path for units in layers for linear in units.linears}
        inside = tuple(f"{path}." for path in prunable)  # of a structure's own, which knows what they cost
        unpruned = {
            path: module.in_features * module.out_features
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and path not in prunable and not path.startswith(inside)
        }
        return ForwardCost(layers, head_of(config).reads(config, unpruned))

    def flops(self, structure: Structure, batch_size: int, length: int) -> int:
        """Return the FLOPs of a forward of a model of some structure, padding included.

        Args:
            structure: The parts of the teacher that the model keeps.
            batch_size: Number of rows.
            length: Tokens of each row.
        """
        tokens, head = batch_size * length, self.head
        flops = 2 * (batch_size * head.rows + tokens * head.tokens + (tokens - batch_size) * head.all_but_last)
        flops += 4 * (tokens + batch_size) * head.attended
        return flops + structure.flops(self.layers, batch_size, length)
