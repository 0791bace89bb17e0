"""A structure of fewer layers."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from raydisc.families.base import Config
from raydisc.families.units import LayerUnits
from raydisc.models.build import build
from raydisc.models.structure import Size, Structure
from raydisc.models.widths import Widths
from raydisc.tensors.lazy_state import State


@dataclass(frozen=True)
class Depth(Structure):
    """The first layers of a BERT, whole."""

    kind: ClassVar[str] = "depth"
    layers: int

    @classmethod
    def full(cls, config: Config) -> Self:
        """Return all layers."""
        return cls(config.num_hidden_layers)

    @classmethod
    def of_candidate(cls, candidate: Structure, **settings: Any) -> Self:
        """Return the layers that a schedule asks for, whatever the candidate keeps of them."""
        return cls(settings["layers"])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the structure in ``layers``."""
        if not isinstance(values.get("layers"), int):
            raise ValueError("the number of layers is missing")
        return cls(values["layers"])

    def to_json(self) -> dict[str, Any]:
        """Return ``layers``."""
        return {"layers": self.layers}

    def fits(self, config: Config) -> bool:
        """Whether the teacher has as many layers."""
        return 0 < self.layers <= config.num_hidden_layers

    def model_config(self, config: Config) -> Config:
        """Return the configuration with fewer layers."""
        shallow = copy(config)
        shallow.num_hidden_layers = self.layers
        return shallow

    def shape(self, model: nn.Module, config: Config) -> None:
        """Leave the model as transformers has built it."""

    def cut(self, state: State, config: Config) -> State:
        """Return the weights without those of the layers that are left out."""
        dropped = tuple(f"bert.encoder.layer.{layer}." for layer in range(self.layers, config.num_hidden_layers))
        return {name: state[name] for name in state if not name.startswith(dropped)}

    def flops(self, layers: Sequence[LayerUnits], batch_size: int, length: int) -> int:
        """Return the FLOPs of the layers that are kept."""
        kept = layers[: self.layers]
        widths = Widths(tuple(units.heads.count for units in kept), tuple(units.neurons.count for units in kept))
        return widths.flops(kept, batch_size, length)

    def size(self, config: Config, teacher_parameters: int) -> Size:
        """Return the share of the layers, which are alike, and the parameters of the model."""
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build(config, self).parameters())
        return Size(self.layers / config.num_hidden_layers, parameters)
