"""The files of artifacts: how stages write and read weights, tables and JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raydisc.families.base import Config
from raydisc.models.build import config_from_dict
from raydisc.models.structure import Structure, structure_from_json, structure_to_json
from raydisc.parallel.rank import ALONE, Rank
from raydisc.parallel.tensor_file import TensorFile
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.facts import TaskFacts
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.tokenised import Split, table_from_buffer
from raydisc.tensors.lazy_state import State
from raydisc.tensors.views import tensor_views


@dataclass(frozen=True)
class Weights:
    """A model as it lies in an artifact; ``state`` aliases shared memory and must never be written to."""

    config: Config
    structure: Structure
    state: State
    scale: float


def read_weights(store: ArtifactStore, model: Model) -> Weights:
    """Read a model of an artifact, cut to the scale asked for."""
    artifact = model.artifact
    with store.reading(artifact, "config.json"):
        config = config_from_dict(store.json(artifact, "config.json"))
    state = read_tensors(store, artifact, "model.safetensors")
    with store.reading(artifact, "subnet.json"):
        kept = store.json(artifact, "subnet.json")
        scale, structure = kept["scale"], _structure_of(kept, model)
    if model.scale is None or model.scale == scale:
        return Weights(config, structure, state, scale)
    return Weights(config, structure, structure.cut(state, config), model.scale)


def read_structure(store: ArtifactStore, model: Model) -> Structure:
    """Read the structure of a model of an artifact, without its weights."""
    with store.reading(model.artifact, "subnet.json"):
        return _structure_of(store.json(model.artifact, "subnet.json"), model)


def _structure_of(kept: Mapping[str, Any], model: Model) -> Structure:
    """Return the structure of a model whose artifact keeps this subnet, or of one of its candidates."""
    if model.scale is not None and model.scale != kept["scale"]:
        kept = next(row for row in model.artifact["candidates"] if row["scale"] == model.scale)
    return structure_from_json(kept)


def weight_blobs(
    config: Config, structure: Structure, scale: float, state: State, rank: Rank = ALONE
) -> dict[str, Blob]:
    """Return the files that ``read_weights`` reads; sharded weights are written by all workers together."""
    return {
        "config.json": json_blob(config.to_dict()),
        "subnet.json": json_blob(subnet_of(structure, scale)),
        "model.safetensors": tensor_blob(state, rank),
    }


def subnet_of(structure: Structure, scale: float) -> dict[str, Any]:
    """Return the content of ``subnet.json``: the units that a model keeps in each layer."""
    return {"scale": scale, **structure_to_json(structure)}


def read_tensors(store: ArtifactStore, artifact: Artifact, name: str) -> dict[str, torch.Tensor]:
    """Return views of the tensors in an artifact's file."""
    with store.reading(artifact, name):
        return tensor_views(store.blob(artifact, name))


def tensor_blob(state: State, rank: Rank = ALONE) -> TensorFile:
    """Return tensors as a safetensors file, each made as it is written; sharded ones by all workers together."""
    return TensorFile(state, rank)


def json_blob(value: Any) -> Blob:
    """Return a JSON file."""
    return lambda path: _write_text(path, json.dumps(value, indent=1))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def table_blob(table: pa.Table) -> Blob:
    """Return a table as a file in Arrow's format, which is streamed to disk."""

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    return write


def read_table(store: ArtifactStore, artifact: Artifact, name: str) -> pa.Table:
    """Read a view of an artifact's table."""
    with store.reading(artifact, name):
        table = table_from_buffer(pa.py_buffer(store.blob(artifact, name)))
        table.validate(full=True)  # nothing else checks its offsets before following them
        return table


def read_split(store: ArtifactStore, data: Artifact, split: str, rows: int | None = None) -> Split:
    """Read a tokenised split, a view of shared memory; or a fixed choice of ``rows`` of its rows."""
    table = read_table(store, data, f"{split}.arrow")
    if rows is not None and rows < table.num_rows:
        table = table.take(pa.array(sampled(table.num_rows, rows, seed=0))).combine_chunks()
    with store.reading(data, f"{split}.arrow"):
        return Split(table, task_kind_of(data))


def task_kind_of(data: Artifact) -> TaskKind:
    """Return the kind of a tokenised task."""
    return task_kind(TaskFacts.of(data).kind)


def sampled(total: int, rows: int, seed: int) -> np.ndarray:
    """Draw ``rows`` row numbers out of ``total`` without repetition, ascending; all of them if there are no more."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:rows])


def prediction_table(predictions: Mapping[float | None, np.ndarray], labels: np.ndarray, split: str) -> pa.Table:
    """Return the predictions of a model on each row, or those of each candidate by scale, for the ledger."""
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
