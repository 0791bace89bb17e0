"""FLOPs of a forward, by formula."""

from dataclasses import dataclass

from torch import nn

from raydisc.families.base import Config
from raydisc.families.registry import family_of, layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.task_heads import is_language_model, is_token_classifier
from raydisc.models.widths import Widths

STEP_FORWARDS = 3
"""A training step in forwards: the backward multiplies once for the weights and once for the inputs."""


@dataclass(frozen=True)
class ForwardCost:
    """Matrix-multiply FLOPs of one model's forward at any widths.

    Attributes:
        layers: the model's prunable units.
        head_weights: weights of the linears outside the transformer layers (pooler, classifier) that read one vector
            for each row.
        token_weights: weights of those that read every token.
        next_weights: weights of those that read every token but a row's last: a language model's head.
        head_attended: width of the head's attention of one query for each row.
    """

    layers: tuple[LayerUnits, ...]
    head_weights: int
    token_weights: int
    next_weights: int
    head_attended: int

    @staticmethod
    def of(model: nn.Module, config: Config) -> "ForwardCost":
        """Read a model's shapes; its widths may be any."""
        layers, head = layers_of(config), family_of(config).head(config)
        prunable = {carrier.path for units in layers for carrier in units.carriers}
        unpruned = {
            path: module.in_features * module.out_features
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and path not in prunable
        }
        if is_language_model(config):
            return ForwardCost(layers, 0, 0, sum(unpruned.values()), 0)
        if is_token_classifier(config):
            return ForwardCost(layers, 0, sum(unpruned.values()), 0, 0)
        token_weights = sum(unpruned[path] for path in head.tokenwise)
        return ForwardCost(layers, sum(unpruned.values()) - token_weights, token_weights, 0, head.attended)

    def flops(self, widths: Widths, batch_size: int, length: int) -> int:
        """FLOPs of a forward on ``batch_size`` rows of ``length`` tokens, padding included.

        Scores that a causal or sliding mask leaves out are counted: they are computed first.
        """
        tokens = batch_size * length
        flops = 2 * (batch_size * self.head_weights + tokens * self.token_weights)
        flops += 2 * (tokens - batch_size) * self.next_weights
        flops += 4 * (tokens + batch_size) * self.head_attended
        for units, heads, neurons in zip(self.layers, widths.heads, widths.neurons, strict=True):
            projections = heads * units.heads.weights(units.hidden_size)
            feed_forward = neurons * units.neurons.weights(units.hidden_size)
            attended = units.heads.input.kept(heads)
            flops += 2 * tokens * (projections + feed_forward) + 4 * tokens * length * attended
        return flops
