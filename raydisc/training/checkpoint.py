"""Checkpoints of a training stage: everything that the next step depends on, as safetensors and JSON.

Weights that a worker holds whole are in one file with the scalars, so that a checkpoint is whole or absent. Sharded
ones are in a folder of shards, which counts once the scalars beside it are there. Nothing is pickled, and any number of
workers can go on from either.
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
from pydantic import AfterValidator, ConfigDict, Field, NonNegativeInt, TypeAdapter
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.sharded_tensors import read_tensors, write_shards
from raydisc.storage.fsync import sync

_FILE = "checkpoint.safetensors"
_SHARDED = "checkpoint.json"
_ALL_WHOLE: Mapping[str, torch.Tensor] = MappingProxyType({})


def _evaluation(found: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(found.get("step"), int) or not isinstance(found.get("metric"), int | float):
        raise ValueError("an evaluation has a step and a metric")
    return found


@dataclass
class TrainingState:
    """Where a training stage stands.

    Attributes:
        step: optimiser steps done.
        flops: executed so far, by all workers.
        evaluations: every evaluation so far, as the stage's evaluate function gave it.
        best: the highest mean metric so far, and how many evaluations ago.
        wall_before: seconds that earlier processes trained up to the checkpoint this one went on from.
        cpu_before: their process time, seconds.
        whole_table: whether the whole word embedding is trained; else the rows of the tokens that occur.
        tensors: model, optimiser, random state and best weights, by prefixed name.
    """

    __pydantic_config__: ClassVar = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    step: Annotated[int, Field(ge=0, lt=2**53)] = 0
    flops: float = 0.0
    evaluations: list[Annotated[dict[str, Any], AfterValidator(_evaluation)]] = field(default_factory=list)
    best: float | None = None
    since_best: NonNegativeInt = 0
    wall_before: float = 0.0
    cpu_before: float = 0.0
    whole_table: bool = False
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors under a prefix, without it."""
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    def put(self, prefix: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the tensors under a prefix."""
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(prefix)}
        self.tensors.update({prefix + name: tensor.detach() for name, tensor in tensors.items()})


_STATE = TypeAdapter(TrainingState)


def save(folder: Path, state: TrainingState, rank: Rank = ALONE) -> None:
    """Write the checkpoint atomically over the one before; every worker must ask."""
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps(asdict(replace(state, tensors={})))
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


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)


def _forget(folder: Path, but: Path) -> None:
    """Remove what an earlier checkpoint has left, also one that was never finished."""
    for shards in set(folder.glob("shards-*")) - {but}:
        shutil.rmtree(shards, ignore_errors=True)
    for unfinished in (*folder.glob(f"{_FILE}.*"), *folder.glob(f"{_SHARDED}.*")):
        unfinished.unlink(missing_ok=True)
    if but.name != _FILE:
        (folder / _FILE).unlink(missing_ok=True)


def load(folder: Path, like: Mapping[str, torch.Tensor] = _ALL_WHOLE, rank: Rank = ALONE) -> TrainingState | None:
    """The checkpoint in a folder, or none; an unreadable one counts as none, since it can be computed again.

    Args:
        folder: where it may lie.
        like: for the name of each tensor that is to be sharded, one that is; none where all are whole.
        rank: of this worker; every worker must ask.
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
    """What the checkpoint in a folder says, without its tensors; none without one that can be read."""
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
        raise ValueError("the best evaluation is none of those there were")
    return state


def fits(
    state: TrainingState, weights: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer, best: bool
) -> bool:
    """Whether a checkpoint's tensors are of a stage; those of a file that somebody has altered need not be.

    Args:
        state: the checkpoint.
        weights: of the stage's model.
        optimiser: of the stage.
        best: whether the best weights so far are among them, once there was an evaluation.
    """
    wanted = _shapes("model.", weights) | (_shapes("best.", weights) if best and state.best is not None else {})
    begun = {name.partition(".")[0] for name in state.part("optimiser.")}  # parameters that had a gradient
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
    """The files of the checkpoint in a folder and those beside it, the one by which it counts last; none without it."""
    mark = next((folder / name for name in (_SHARDED, _FILE) if (folder / name).is_file()), None)
    if mark is None:
        return []
    others = (path for path in folder.rglob("*") if path.is_file() and path != mark)
    return [*sorted(path for path in others if not path.suffix[1:].isdigit()), mark]  # no number: it is whole


def evaluations_in(folder: Path) -> list[dict[str, Any]]:
    """The evaluations that the checkpoint in a folder remembers; none without one that can be read."""
    state = progress_in(folder)
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
