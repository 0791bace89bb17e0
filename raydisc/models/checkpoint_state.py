"""A checkpoint's weights by name, read from its files one tensor at a time; a head that is missing is made anew."""

from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from raydisc.errors import InputError
from raydisc.models.families import Config
from raydisc.models.state import State


class CheckpointState(State):
    """The float32 weights of a sequence classifier as a checkpoint has them.

    Args:
        folder: the checkpoint; an encoder's own files may leave out the encoder's name.
        config: of the classifier.
        finetuned: whether the head must be there and fit; else torch's random state decides what a new one is.

    Raises:
        InputError: weights are missing that are no head, or the head of a finished teacher.
    """

    def __init__(self, folder: Path, config: Config, finetuned: bool) -> None:
        """Find every weight."""
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
        self._places = _places(folder)
        self._named: dict[str, str] = {}
        missing: set[str] = set()
        for name, wanted in model.state_dict().items():
            found = next((it for it in (name, name.partition(".")[2]) if it in self._places), None)
            if found is None or _shape(self._places[found], found) != tuple(wanted.shape):
                missing.add(name)
            else:
                self._named[name] = found
        self._order = list(model.state_dict())
        encoders = sorted(name for name in missing if name.startswith(f"{model.base_model_prefix}."))
        needed = encoders if not finetuned else sorted(missing)
        if needed:
            raise InputError(
                f"teacher.model: '{folder}' cannot be read shard by shard: "
                f"it lacks {needed[0]}, or has it in another shape"
            )
        self._new = _initialised(model, missing)

    def __getitem__(self, name: str) -> torch.Tensor:
        """A weight."""
        if name in self._new:
            return self._new[name]
        found = self._named[name]
        with safe_open(self._places[found], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(found)
        return tensor.float()

    def __iter__(self) -> Iterator[str]:
        """Names, as the model has them."""
        return iter(self._order)

    def __len__(self) -> int:
        """How many weights there are."""
        return len(self._order)


def _places(folder: Path) -> dict[str, Path]:
    places: dict[str, Path] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            places |= dict.fromkeys(file.keys(), path)
    return places


def _shape(path: Path, name: str) -> tuple[int, ...]:
    with safe_open(path, framework="pt") as file:
        return tuple(file.get_slice(name).get_shape())


def _initialised(model: PreTrainedModel, missing: set[str]) -> dict[str, torch.Tensor]:
    """Weights that no file holds, as the model's own code initialises them, in the library's order."""
    made: dict[str, torch.Tensor] = {}

    def visit(module: nn.Module, path: str, owner: PreTrainedModel) -> None:
        for name, child in module.named_children():
            visit(child, f"{path}{name}.", child if isinstance(child, PreTrainedModel) else owner)
        own = {
            name: f"{path}{name}" for name, _ in module.named_parameters(recurse=False) if f"{path}{name}" in missing
        }
        if own:
            stand_in = copy(module)
            stand_in._parameters = {
                name: nn.Parameter(torch.empty_like(parameter, device="cpu")) if name in own else None
                for name, parameter in module._parameters.items()
                if parameter is not None
            }
            cast(Any, owner)._init_weights(stand_in)
            made.update({full: stand_in.get_parameter(name).detach() for name, full in own.items()})

    visit(model, "", model)
    return made
