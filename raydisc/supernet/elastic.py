"""Elastic layers: one set of weights, sliced to the active candidate, so that a step's cost follows the scale."""

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import PrunableLinear
from raydisc.models.widths import Widths


class ElasticLinear(nn.Linear):
    """A linear layer that uses the weights of its first units.

    Attributes:
        prunable: The place of its units.
        active: The number of units that are used.
    """

    prunable: PrunableLinear
    active: int

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name is nn.Linear's
        """Multiply ``[..., active columns]`` into ``[..., active rows]``."""
        bias: torch.Tensor | None = self.bias
        if bias is not None and self.prunable.axis == 0:
            bias = self.prunable.first(bias, self.active)
        return functional.linear(input, self.prunable.first(self.weight, self.active), bias)


def make_elastic(model: nn.Module, config: Config) -> None:
    """Turn the linear layers that carry units into elastic ones, in place.

    Only the class changes. Parameters, their names and hooks stay, so that optimisers and checkpoints fit as before.
    """
    for units in layers_of(config):
        for prunable in units.linears:
            linear = cast(ElasticLinear, model.get_submodule(prunable.path))
            linear.__class__ = ElasticLinear
            linear.prunable = prunable
    select_all(model, config)


def select_all(model: nn.Module, config: Config) -> None:
    """Make all units active that the model has."""
    for units in layers_of(config):
        for prunable in units.linears:
            linear = cast(ElasticLinear, model.get_submodule(prunable.path))
            linear.active = linear.weight.shape[prunable.axis] // prunable.kept(1)


def select(model: nn.Module, config: Config, widths: Widths) -> None:
    """Make a candidate the active one; run its backward before another is selected."""
    for index, units in enumerate(layers_of(config)):
        for linear, kept in widths.of(index, units):
            cast(ElasticLinear, model.get_submodule(linear.path)).active = kept
