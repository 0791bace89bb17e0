"""Checkpoints of a training stage: everything that the next step depends on, as safetensors and JSON.

One file holds tensors and scalars, so that a checkpoint is whole or absent. Nothing is pickled.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_FILE = "checkpoint.safetensors"


@dataclass
class TrainingState:
    """Where a training stage stands.

    Attributes:
        step: optimiser steps done.
        flops: executed so far.
        evaluations: every evaluation so far, as the stage's evaluate function gave it.
        best: the highest mean metric so far, and how many evaluations ago.
        wall_before: seconds that earlier processes trained up to the checkpoint this one went on from.
        cpu_before: their process time, seconds.
        tensors: model, optimiser, random state and best weights, by prefixed name.
    """

    step: int = 0
    flops: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    since_best: int = 0
    wall_before: float = 0.0
    cpu_before: float = 0.0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors under a prefix, without it."""
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    def put(self, prefix: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the tensors under a prefix."""
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(prefix)}
        self.tensors.update({prefix + name: tensor.detach() for name, tensor in tensors.items()})


def save(folder: Path, state: TrainingState) -> None:
    """Write the checkpoint atomically over the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    scalars = {
        "step": state.step, "flops": state.flops, "evaluations": state.evaluations,
        "best": state.best, "since_best": state.since_best,
        "wall_before": state.wall_before, "cpu_before": state.cpu_before,
    }  # fmt: skip
    temporary = folder / f"{_FILE}.{os.getpid()}"
    tensors = {name: tensor.contiguous().cpu() for name, tensor in state.tensors.items()}
    save_file(tensors, temporary, metadata={"state": json.dumps(scalars)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(folder / _FILE)


def load(folder: Path) -> TrainingState | None:
    """The checkpoint in a folder, or none; an unreadable one counts as none, since it can be computed again."""
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            scalars = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return TrainingState(**scalars, tensors=tensors)
    except Exception:
        path.unlink(missing_ok=True)
        return None


def evaluations_in(folder: Path) -> list[dict[str, Any]]:
    """The evaluations that the checkpoint in a folder remembers; none without one that can be read."""
    state = load(folder)
    return [] if state is None else state.evaluations


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's moments and step counts by parameter number."""
    return {
        f"{index}.{name}": value
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put moments and step counts back; the groups are those the optimiser was made with."""
    values: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field_name = name.partition(".")
        values.setdefault(int(index), {})[field_name] = tensor
    optimiser.load_state_dict({"state": values, "param_groups": optimiser.state_dict()["param_groups"]})
