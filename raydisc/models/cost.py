"""FLOPs of a forward, by formula."""

from dataclasses import dataclass

from torch import nn

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.task_heads import HeadReads, head_of
from raydisc.models.widths import Widths

STEP_FORWARDS = 3
"""A training step in forwards: the backward multiplies once for the weights and once for the inputs."""


@dataclass(frozen=True)
class ForwardCost:
    """Matrix-multiply FLOPs of one model's forward at any widths.

    Attributes:
        layers: the model's prunable units.
        head: what the linears outside the transformer layers (pooler, classifier) read.
    """

    layers: tuple[LayerUnits, ...]
    head: HeadReads

    @staticmethod
    def of(model: nn.Module, config: Config) -> "ForwardCost":
        """Read a model's shapes; its widths may be any."""
        layers = layers_of(config)
        prunable = {carrier.path for units in layers for carrier in units.carriers}
        unpruned = {
            path: module.in_features * module.out_features
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and path not in prunable
        }
        return ForwardCost(layers, head_of(config).reads(config, unpruned))

    def flops(self, widths: Widths, batch_size: int, length: int) -> int:
        """FLOPs of a forward on ``batch_size`` rows of ``length`` tokens, padding included.

        Scores that a causal or sliding mask leaves out are counted: they are computed first.
        """
        tokens = batch_size * length
        flops = 2 * (batch_size * self.head.rows + tokens * self.head.tokens)
        flops += 2 * (tokens - batch_size) * self.head.all_but_last
        flops += 4 * (tokens + batch_size) * self.head.attended
        for units, heads, neurons in zip(self.layers, widths.heads, widths.neurons, strict=True):
            projections = heads * units.heads.weights(units.hidden_size)
            feed_forward = neurons * units.neurons.weights(units.hidden_size)
            attended = units.heads.input.kept(heads)
            flops += 2 * tokens * (projections + feed_forward) + 4 * tokens * length * attended
        return flops
