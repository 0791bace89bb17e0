"""The weights of a checkpoint by name, read from its files one tensor at a time; missing ones are initialised."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from raydisc.families.base import Config
from raydisc.families.registry import family_of
from raydisc.models.build import build
from raydisc.models.structure import full_structure
from raydisc.models.task_heads import weights_of
from raydisc.models.teacher_checkpoint import refuse_other_weights, refuse_unfinished, stored_tensors
from raydisc.tensors.lazy_state import State


class CheckpointState(State):
    """The float32 weights of a classifier or language model in a checkpoint, whatever their type in its files.

    Args:
        folder: The checkpoint; an encoder's own files may leave out the encoder's name.
        config: The configuration of the model.
        finetuned: Whether all weights must be there and fit; otherwise a missing head is initialised by torch's random
            state.

    Raises:
        InputError: Weights of the encoder are missing, or those of the head of a finished teacher.
    """

    def __init__(self, folder: Path, config: Config, finetuned: bool) -> None:
        """Find every weight."""
        with torch.device("meta"):
            model = cast(PreTrainedModel, build(config, full_structure(config)))
        self._files = stored_tensors(folder)
        self._named: dict[str, str] = {}
        missing: set[str] = set()
        mismatched: set[str] = set()
        wanted_weights, family = weights_of(model), family_of(config)
        self._order = list(wanted_weights)
        for name, wanted in wanted_weights.items():
            found = next((it for it in family.stored_names(name) if it in self._files), None)
            if found is None:
                missing.add(name)
            elif self._files[found].shape != tuple(wanted.shape):
                mismatched.add(name)
            else:
                self._named[name] = found
        refuse_other_weights(model, missing, mismatched, folder)
        if finetuned:
            refuse_unfinished(config, missing | mismatched, folder)
        self._new: dict[str, torch.Tensor] = {}
        self._new = self._initialised(model, missing | mismatched)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a weight."""
        if name in self._new:
            return self._new[name]
        found = self._named[name]
        with safe_open(self._files[found].path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(found)
        return tensor.float() if tensor.is_floating_point() else tensor

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order of the model."""
        return iter(self._order)

    def __len__(self) -> int:
        """Return the number of weights."""
        return len(self._order)

    def _initialised(self, model: PreTrainedModel, missing: set[str]) -> dict[str, torch.Tensor]:
        """Initialise the weights that no file has by the model's own code, in the order of transformers.

        The word embedding is read for this, since some weights are made from it.
        """
        if not missing:
            return {}
        embedding = model.get_input_embeddings()
        read = {name for name, tensor in model.named_parameters() if tensor is embedding.weight} - missing
        for name, tensor in dict(model.state_dict(keep_vars=True)).items():
            if name in missing | read:
                owner, _, own = name.rpartition(".")
                tensor = _put(model.get_submodule(owner), own, torch.empty_like(tensor, device="cpu"))
            if name in read:
                tensor.data.copy_(self[name])
            tensor._is_hf_initialized = name not in missing
        model.initialize_weights()
        made = weights_of(model)
        return {name: made[name] for name in missing}


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if name in module._parameters:
        tensor = nn.Parameter(tensor)
    setattr(module, name, tensor)
    return tensor
