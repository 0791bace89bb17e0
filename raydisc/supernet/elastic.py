"""Elastic layers: one set of weights, sliced to the active candidate, so that a step's cost follows the scale."""

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from raydisc.models.families import Config, layers_of
from raydisc.models.widths import Widths


class ElasticLinear(nn.Linear):
    """A linear layer that uses its first ``active[0]`` rows and first ``active[1]`` columns."""

    active: tuple[int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name is nn.Linear's
        """Multiply ``[..., active columns]`` into ``[..., active rows]``."""
        rows, columns = self.active
        bias = None if self.bias is None else self.bias[:rows]
        return functional.linear(input, self.weight[:rows, :columns], bias)


def make_elastic(model: nn.Module, config: Config) -> None:
    """Turn the linears that carry units into elastic ones, in place.

    Only the class changes: parameters, their names and hooks stay, so optimisers and checkpoints do too.
    """
    for units in layers_of(config):
        for path, _, _ in units.slices():
            linear = cast(nn.Linear, model.get_submodule(path))
            linear.__class__ = ElasticLinear
            cast(ElasticLinear, linear).active = (linear.out_features, linear.in_features)


def select(model: nn.Module, config: Config, widths: Widths) -> None:
    """Make a candidate the active one. Run its backward before another is selected."""
    for index, units in enumerate(layers_of(config)):
        for path, axis, size in widths.of(index, units):
            linear = cast(ElasticLinear, model.get_submodule(path))
            rows, columns = linear.active
            linear.active = (size, columns) if axis == 0 else (rows, size)
