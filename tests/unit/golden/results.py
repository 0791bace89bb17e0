"""The results of the stages of a tiny search, in numbers that are alike on every processor.

Rounding differs among processors, so that no hash is compared: of real numbers their length and one projection, of
whole ones exact sums. Left out is what rounding can turn over: metrics that count examples, the order of likeliest
tokens, and vectors of weights, some of which have no gradient but rounding's (a bias of keys).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file

from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.store import ArtifactStore

COUNTED = {"metric", "se"}
TURNED_OVER = {"tokens.arrow"}


def described(store: ArtifactStore, request: Stage, artifact: Artifact) -> dict[str, Any]:
    """A stage: its kind and version, the files of its artifact, what they hold, its facts and FLOPs."""
    names = sorted(artifact.blobs)
    read = [name for name in names if name not in TURNED_OVER]
    values = {name: found for name in read if (found := dict(_values(store.path(artifact, name))))}
    return {
        "kind": request.kind,
        "version": request.version,
        "files": names,
        "values": values,
        "facts": _steady({name: value for name, value in artifact.manifest()["facts"].items() if name != "platform"}),
        "flops": round(artifact.flops),
    }


def _steady(facts: Any) -> Any:
    if isinstance(facts, dict):
        return {name: _steady(value) for name, value in facts.items() if name not in COUNTED or isinstance(value, str)}
    return [_steady(value) for value in facts] if isinstance(facts, list | tuple) else facts


def _values(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Return a summary of a file of tensors, or of each column of a table."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        whole = path.name == "scores.safetensors"
        yield "all", _numbers(np.concatenate([it.ravel() for _, it in sorted(tensors.items()) if whole or it.ndim > 1]))
    if path.suffix == ".arrow":
        table = pa.ipc.open_file(str(path)).read_all()
        for name in table.column_names:
            values = table[name].combine_chunks()
            while hasattr(values, "flatten") and not pa.types.is_primitive(values.type) and values.type.num_fields:
                values = values.flatten()
            if pa.types.is_primitive(values.type) and not values.null_count:
                yield name, _numbers(values.to_numpy(zero_copy_only=False))


def _numbers(values: np.ndarray) -> dict[str, float]:
    if np.issubdtype(values.dtype, np.integer):
        places = np.arange(values.size) % 97
        return {"count": values.size, "sum": int(values.sum()), "by_place": int((values * places).sum())}
    missing = int(np.isnan(values).sum())  # a row of words or of packed text has no single label
    values = np.nan_to_num(values.astype(np.float64))
    length = float(np.linalg.norm(values))
    return {
        "count": values.size,
        "missing": missing,
        "length": length,
        "projection": float(values @ np.cos(0.7 * np.arange(values.size))) / (length or 1.0),
    }
