"""What every stage's computation is given and gives back, and how it reads its inputs."""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, NonNegativeInt, TypeAdapter

from raydisc.config.sections import TrainingConfig
from raydisc.families.base import Config
from raydisc.models.build import config_from_dict, cut
from raydisc.models.cost import ForwardCost
from raydisc.models.widths import Widths
from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.tensor_file import TensorFile
from raydisc.stages.artifact import Artifact
from raydisc.stages.requests import Model
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.tasks.batching import EVALUATION_BATCH
from raydisc.tasks.tokenised import Batch, Split, table_from_buffer
from raydisc.tensors.lazy_state import State
from raydisc.tensors.shared_memory import shared_tensor
from raydisc.training.batches import BatchSource, optimiser_settings
from raydisc.training.execution import Execution
from raydisc.training.inference import Pass
from raydisc.training.loop import LoopSettings, Progress, Stops, never


@dataclass(frozen=True)
class Context:
    """What the computation of a stage is given.

    Attributes:
        store: The artifacts.
        device: The device to compute on.
        progress: Takes the state of the running stage.
        checkpoint_folder: The folder of what the stage needs to go on after a crash.
        execution: How the stage is computed.
        rank: The rank of this worker among those that compute the stage.
        stops: Whether this worker is asked to stop.
    """

    store: ArtifactStore
    device: torch.device
    progress: Progress
    checkpoint_folder: Path
    execution: Execution = Execution()
    rank: Rank = ALONE
    stops: Stops = never

    def loop(
        self,
        stage: str,
        config: TrainingConfig,
        source: BatchSource,
        steps: int,
        evaluate_at: frozenset[int] = frozenset(),
        patience: int | None = None,
    ) -> LoopSettings:
        """Return the settings of the loop that trains a stage.

        Args:
            stage: The stage's name in messages.
            config: The section of the experiment that says how the stage trains.
            source: The batches of the stage.
            steps: The number of optimiser steps.
            evaluate_at: The steps after which an evaluation follows.
            patience: The number of evaluations without a better metric after which training stops; None never stops.
        """
        return LoopSettings(
            stage=stage,
            total_steps=steps,
            seed=source.seed,
            optimiser=optimiser_settings(config),
            evaluate_at=evaluate_at,
            patience=patience,
            checkpoint_folder=self.checkpoint_folder,
            checkpoint_every_s=self.execution.checkpoint_every_s,
            tokens=source.tokens(),
            stops=self.stops,
        )


@dataclass(frozen=True)
class Result:
    """What a stage's computation gives back.

    Attributes:
        facts: JSON values for schedules and the ledger; ``evaluations`` and ``candidates`` have fixed fields.
        flops: executed.
        blobs: files of the artifact by name.
        wall_before: seconds of earlier processes whose work the computation went on from.
        cpu_before: their process time, seconds.
    """

    facts: Mapping[str, Any]
    flops: float
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    wall_before: float = 0.0
    cpu_before: float = 0.0


class FlopMeter:
    """Counts the FLOPs of forwards, padding included."""

    def __init__(self, cost: ForwardCost, widths: Widths) -> None:
        """Start at zero."""
        self._cost, self._widths = cost, widths
        self.flops = 0.0

    def __call__(self, batch: Batch) -> None:
        """Count a forward on a batch."""
        self.flops += self._cost.flops(self._widths, *batch.shape)


def one_pass(context: Context, meter: FlopMeter, rows: int | None = None) -> Pass:
    """A pass of a stage, which tells of each batch; as a step, where the stage does nothing else with so many rows."""
    done = itertools.count(1)
    steps = None if rows is None else math.ceil(rows / EVALUATION_BATCH)

    def on_batch(batch: Batch) -> None:
        meter(batch)
        context.progress({} if steps is None else {"step": next(done), "steps": steps})

    return Pass(EVALUATION_BATCH, on_batch, context.execution.precision, context.rank, context.execution.micro_batches)


@dataclass(frozen=True)
class Weights:
    """A model as it lies in an artifact: ``state`` aliases shared memory and is never to be written to."""

    config: Config
    widths: Widths
    state: State
    scale: float


def read_weights(store: ArtifactStore, model: Model) -> Weights:
    """A model of an artifact, cut to the scale asked for."""
    artifact = model.artifact
    with store.reading(artifact, "config.json"):
        config = config_from_dict(store.json(artifact, "config.json"))
    state = read_tensors(store, artifact, "model.safetensors")
    with store.reading(artifact, "subnet.json"):
        kept = store.json(artifact, "subnet.json")
        scale, widths = kept["scale"], _widths_of(kept, model)
    if model.scale is None or model.scale == scale:
        return Weights(config, widths, state, scale)
    return Weights(config, widths, cut(state, config, widths), model.scale)


def read_widths(store: ArtifactStore, model: Model) -> Widths:
    """The widths of a model of an artifact, without its weights."""
    with store.reading(model.artifact, "subnet.json"):
        return _widths_of(store.json(model.artifact, "subnet.json"), model)


def _widths_of(kept: Mapping[str, Any], model: Model) -> Widths:
    """The widths of a model whose artifact keeps this subnet, or of one of its candidates."""
    if model.scale is not None and model.scale != kept["scale"]:
        kept = next(row for row in model.artifact["candidates"] if row["scale"] == model.scale)
    return Widths(tuple(kept["heads"]), tuple(kept["neurons"]))


def weight_blobs(config: Config, widths: Widths, scale: float, state: State, rank: Rank = ALONE) -> dict[str, Blob]:
    """The files that ``read_weights`` reads; sharded weights are written by all workers together."""
    subnet = {"scale": scale, "heads": list(widths.heads), "neurons": list(widths.neurons)}
    return {
        "config.json": json_blob(config.to_dict()),
        "subnet.json": json_blob(subnet),
        "model.safetensors": tensor_blob(state, rank),
    }


def read_tensors(store: ArtifactStore, artifact: Artifact, name: str) -> dict[str, torch.Tensor]:
    """Views of the tensors in an artifact's file."""
    with store.reading(artifact, name):
        return tensor_views(store.blob(artifact, name))


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


class _Entry(BaseModel):
    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_HEADER, _ENTRIES = TypeAdapter(dict[str, Any]), TypeAdapter(dict[str, _Entry])


def tensor_views(image: np.ndarray) -> dict[str, torch.Tensor]:
    """Tensors that alias a safetensors image ``[bytes]``, without a copy.

    Raises:
        ValueError: it is none: tensors lie beyond its end, over each other or apart, or are not of the size they say.
    """
    body = 8 + int.from_bytes(image[:8].tobytes(), "little")
    if len(image) < body:
        raise ValueError("the header of the tensor file is cut short")
    header = _HEADER.validate_json(image[8:body].tobytes())
    header.pop("__metadata__", None)
    entries = _ENTRIES.validate_python(header)
    end = 0
    for begin, after in sorted(entry.data_offsets for entry in entries.values()):
        if begin != end:
            raise ValueError("tensors of the file lie over each other or apart")
        end = after
    if body + end != len(image):
        raise ValueError("the tensor file is not as long as its header says")
    return {name: _view(image[body:], entry) for name, entry in entries.items()}


def _view(body: np.ndarray, entry: _Entry) -> torch.Tensor:
    begin, end = entry.data_offsets
    dtype = _DTYPES[entry.dtype]
    count = math.prod(entry.shape)
    if end - begin != count * dtype.itemsize:
        raise ValueError("a tensor of the file is not of the size that its shape says")
    try:
        return shared_tensor(body, dtype, offset=begin, count=count).view(entry.shape)
    except (RuntimeError, OverflowError) as error:
        raise ValueError("a tensor of the file has a shape that none can have") from error


def tensor_blob(state: State, rank: Rank = ALONE) -> TensorFile:
    """Tensors as safetensors, each made as it is written; sharded ones by all workers together."""
    return TensorFile(state, rank)


def json_blob(value: Any) -> Blob:
    """A JSON file."""
    return lambda path: _write_text(path, json.dumps(value, indent=1))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def table_blob(table: pa.Table) -> Blob:
    """A table in Arrow's file format, streamed to disk."""

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    return write


def read_table(store: ArtifactStore, artifact: Artifact, name: str) -> pa.Table:
    """A view of an artifact's table."""
    with store.reading(artifact, name):
        table = table_from_buffer(pa.py_buffer(store.blob(artifact, name)))
        table.validate(full=True)  # its offsets are what nothing else looks at before it follows them
        return table


def read_split(store: ArtifactStore, data: Artifact, split: str, rows: int | None = None) -> Split:
    """A tokenised split, a view of shared memory; or a fixed choice of so many of its rows."""
    table = read_table(store, data, f"{split}.arrow")
    if rows is not None and rows < table.num_rows:
        table = table.take(pa.array(sampled(table.num_rows, rows, seed=0))).combine_chunks()
    with store.reading(data, f"{split}.arrow"):
        return Split(table, language=data["kind"] == "language")


def sampled(total: int, rows: int, seed: int) -> np.ndarray:
    """So many row numbers out of ``total`` without repetition, ascending; all where there are no more."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:rows])


def prediction_table(predictions: Mapping[float | None, np.ndarray], labels: np.ndarray, split: str) -> pa.Table:
    """Per-example predictions of a model, or of each candidate by scale, for the ledger."""
    tables = [
        pa.table(
            {
                "split": pa.array([split] * len(labels)),
                "scale": pa.array([scale] * len(labels), pa.float64()),
                "row": pa.array(np.arange(len(labels))),
                "prediction": pa.array(list(logits.astype(np.float32)), pa.list_(pa.float32())),
                "label": pa.array(labels.astype(np.float64)),
            }
        )
        for scale, logits in predictions.items()
    ]
    return pa.concat_tables(tables).combine_chunks()


Compute = Callable[[Any, Context], Result]
"""Computes a request."""
