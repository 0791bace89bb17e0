"""Sharded tensors on disk: every worker writes and reads its own part as safetensors, in any layout.

``torch.distributed.checkpoint`` does both, with its reader and writer of safetensors, since its own format is pickled.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from raydisc.parallel.rank import Rank
from raydisc.storage.fsync import sync

_FILE_BYTES = 2**26
"""The approximate size of a file of shards, which is assembled in memory."""


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor], rank: Rank) -> None:
    """Write tensors, sharded ones by all workers and others by one of them; every worker must call this."""
    if rank.leads:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    rank.wait()
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True, fqn_to_index_mapping=_files(tensors))
    save(dict(tensors), storage_writer=writer)
    if rank.leads:
        for path in (*folder.iterdir(), folder):
            sync(path)


def _files(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return the number of the file that each tensor is written to."""
    files: dict[str, int] = {}
    size = 0
    for name, tensor in tensors.items():
        files[name] = 1 + size // _FILE_BYTES
        size += tensor.nbytes
    return files


def read_tensors(path: Path, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file or of a folder of shards.

    Args:
        path: The file or the folder.
        like: A sharded tensor for the name of each tensor that is to be sharded; only this worker's part of it is read.
    """
    if path.is_file() and not like:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is not a mapping
    reader = HuggingFaceStorageReader(str(path if path.is_dir() else path.parent))
    targets = dict(_targets(reader.read_metadata().state_dict_metadata, like))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # each worker reads for itself
        load(targets, storage_reader=reader, no_dist=True)
    return targets


def _targets(found: Mapping[str, object], like: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, torch.Tensor]]:
    for name, stored in found.items():
        if not isinstance(stored, TensorStorageMetadata):
            raise TypeError(f"{name} is not a tensor")
        template = like.get(name)
        if template is not None and template.shape == stored.size:
            yield name, torch.empty_like(template, dtype=stored.properties.dtype)
        else:
            yield name, torch.empty(stored.size, dtype=stored.properties.dtype)
