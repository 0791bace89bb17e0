"""Checkpoints of a training stage: everything that the next step depends on, as safetensors and JSON.

Weights that each worker holds whole lie in one file together with the scalars, so that a checkpoint is whole or absent.
Sharded weights lie in a folder of shards, which is valid once the scalars are written beside it. Nothing is pickled,
and any number of workers can continue from either.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.sharded_tensors import read_tensors, write_shards
from raydisc.storage.fsync import sync
from raydisc.training.progress import Evaluation

_FILE = "checkpoint.safetensors"
_SHARDED = "checkpoint.json"
_ALL_WHOLE: Mapping[str, torch.Tensor] = MappingProxyType({})


@dataclass
class TrainingState:
    """The state of a training stage after a step.

    Attributes:
        step: The number of optimiser steps done.
        flops: The FLOPs that all workers have executed so far.
        evaluations: Every evaluation so far.
        best: The highest mean metric so far; None before the first evaluation.
        since_best: The number of evaluations since then.
        wall_before: Seconds that earlier processes trained up to the checkpoint from which this one continued.
        cpu_before: Their process time in seconds.
        whole_table: Whether the whole word embedding is trained, rather than the rows of the tokens that occur.
        tensors: The model, the optimiser, the random states and the best weights, by prefixed name.
    """

    __pydantic_config__: ClassVar = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    step: Annotated[int, Field(ge=0, lt=2**53)] = 0
    flops: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)
    best: float | None = None
    since_best: NonNegativeInt = 0
    wall_before: float = 0.0
    cpu_before: float = 0.0
    whole_table: bool = False
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors whose names begin with a prefix, by the rest of their names."""
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    def put(self, prefix: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the tensors whose names begin with a prefix."""
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(prefix)}
        self.tensors.update({prefix + name: tensor.detach() for name, tensor in tensors.items()})


_STATE = TypeAdapter(TrainingState)


def save(folder: Path, state: TrainingState, rank: Rank = ALONE) -> None:
    """Write the checkpoint atomically in place of the one before; all workers must call it."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluations = [_evaluation_to_json(found) for found in state.evaluations]
    told = json.dumps({**asdict(replace(state, tensors={}, evaluations=[])), "evaluations": evaluations})
    if any(isinstance(tensor, DTensor) for tensor in state.tensors.values()):
        shards = folder / f"shards-{state.step}"
        write_shards(shards, state.tensors, rank)
        if rank.leads:
            _write_atomically(folder / _SHARDED, told)
            _forget(folder, but=shards)
    elif rank.leads:
        temporary = folder / f"{_FILE}.{os.getpid()}"
        tensors = {name: tensor.contiguous().cpu() for name, tensor in state.tensors.items()}
        save_file(tensors, temporary, metadata={"state": told})
        sync(temporary)
        temporary.replace(folder / _FILE)
        (folder / _SHARDED).unlink(missing_ok=True)
        _forget(folder, but=folder / _FILE)


def _evaluation_to_json(found: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON values, without what it does not have."""
    return {name: value for name, value in asdict(found).items() if value not in (None, ())}


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)


def _forget(folder: Path, but: Path) -> None:
    """Remove the files of earlier checkpoints, unfinished ones included."""
    for shards in set(folder.glob("shards-*")) - {but}:
        shutil.rmtree(shards, ignore_errors=True)
    for unfinished in (*folder.glob(f"{_FILE}.*"), *folder.glob(f"{_SHARDED}.*")):
        unfinished.unlink(missing_ok=True)
    if but.name != _FILE:
        (folder / _FILE).unlink(missing_ok=True)


def load(folder: Path, like: Mapping[str, torch.Tensor] = _ALL_WHOLE, rank: Rank = ALONE) -> TrainingState | None:
    """Return the checkpoint in a folder, or None; an unreadable one is ignored, since it can be computed again.

    Args:
        folder: The folder of the checkpoint.
        like: For each tensor that is to be sharded, a tensor that is sharded in the same way, by name.
        rank: The rank of this worker; all workers must call it.
    """
    state = rank.from_leader(progress_in(folder))
    if state is None:
        return None
    shards = folder / f"shards-{state.step}"
    try:
        state.tensors, broken = read_tensors(shards if shards.is_dir() else folder / _FILE, like), False
    except Exception:
        broken = True
    return None if rank.any_of(broken)[0] else state


def progress_in(folder: Path) -> TrainingState | None:
    """Return the checkpoint in a folder without its tensors, or None if there is no readable one."""
    try:
        if (folder / _SHARDED).exists():
            return _told((folder / _SHARDED).read_text())
        if not (folder / _FILE).exists():
            return None
        with safe_open(folder / _FILE, framework="pt") as file:
            return _told(file.metadata()["state"])
    except Exception:
        (folder / _SHARDED).unlink(missing_ok=True)
        (folder / _FILE).unlink(missing_ok=True)
        return None


def _told(text: str) -> TrainingState:
    state = _STATE.validate_python(json.loads(text))
    if state.since_best >= max(1, len(state.evaluations)):
        raise ValueError("the best evaluation is not among the evaluations")
    return state


def fits(
    state: TrainingState, weights: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer, best: bool
) -> bool:
    """Whether the tensors of a checkpoint fit a stage, which those of an altered file need not do.

    Args:
        state: The checkpoint.
        weights: The weights of the stage's model.
        optimiser: The optimiser of the stage.
        best: Whether the checkpoint has to hold the best weights, once there was an evaluation.
    """
    wanted = _shapes("model.", weights) | (_shapes("best.", weights) if best and state.best is not None else {})
    begun = {name.partition(".")[0] for name in state.part("optimiser.")}  # Parameters that had a gradient.
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments = {
        f"{index}.{name}": torch.tensor(0.0) if name == "step" else parameter
        for index, parameter in enumerate(trained)
        for name in ("exp_avg", "exp_avg_sq", "step")
        if str(index) in begun
    }
    wanted |= _shapes("optimiser.", moments)
    allowed = wanted | _shapes("best.", weights)
    found = {name: it for name, it in _shapes("", state.tensors).items() if not name.startswith("random.")}
    states = _shapes("", {name: it for name, it in state.part("random.").items() if name.startswith("cpu.")})
    random = _shapes("", {"cpu": torch.get_rng_state()})["cpu"]
    return wanted.items() <= found.items() <= allowed.items() and all(it == random for it in states.values())


def _shapes(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {prefix + name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of a folder with a checkpoint, the one that makes it valid last; empty without a checkpoint."""
    mark = next((folder / name for name in (_SHARDED, _FILE) if (folder / name).is_file()), None)
    if mark is None:
        return []
    others = (path for path in folder.rglob("*") if path.is_file() and path != mark)
    return [*sorted(path for path in others if not path.suffix[1:].isdigit()), mark]  # A number marks unfinished files.


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return AdamW's moments and step counts, by the number of the parameter."""
    return {
        f"{index}.{name}": value
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore moments and step counts; the parameter groups stay as the optimiser was made."""
    values: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field_name = name.partition(".")
        values.setdefault(int(index), {})[field_name] = tensor
    optimiser.load_state_dict({"state": values, "param_groups": optimiser.state_dict()["param_groups"]})
