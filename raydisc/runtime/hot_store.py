"""Hot copies of artifacts in Ray's object store: one shared-memory copy a node, read without a private copy."""

from collections import OrderedDict
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import ray

from raydisc.stages.artifact import Artifact
from raydisc.stages.store import ArtifactStore
from raydisc.storage.address import open_storage
from raydisc.storage.folder import Storage

_SMALL_BYTES = 2**20
"""Files up to this size are read from the durable copy: an object of their own would cost more than it saves."""

_READ_TIMEOUT_S = 120.0


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class HotCopies:
    """Owns the objects, so that they outlive the trials; restarted empty, it reads the durable copies again.

    It also hands on to the trials that the driver wants them to stop.

    Args:
        storage: the storage's path or address.
        capacity_bytes: objects kept; those read least recently are let go first.
    """

    def __init__(self, storage: str, capacity_bytes: int) -> None:
        """Start without copies."""
        self._store = ArtifactStore(open_storage(storage))
        self._capacity = capacity_bytes
        self._held: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._stopping = False

    def reference(self, artifact: Artifact, name: str) -> list[Any]:
        """A list of one reference (so that Ray hands over the reference, not the value) to a file's bytes.

        The list is empty where the file is larger than all that may be kept.

        Raises:
            AlteredArtifact: the durable copy is not what was written.
        """
        sha256 = artifact.blobs[name]
        if sha256 not in self._held:
            if self._store.size(artifact, name) > self._capacity:
                return []
            # a map, so that the bytes are in no private memory; a plain array, whose bytes Ray copies once
            image = np.asarray(self._store.map_blob(artifact, name))
            self._make_room(len(image))
            self._held[sha256] = (ray.put(image), len(image))
        self._held.move_to_end(sha256)
        return [self._held[sha256][0]]

    def stop(self) -> None:
        """The driver wants all trials to stop; it says so again and again, as this actor may be restarted."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether it does."""
        return self._stopping

    def _make_room(self, size: int) -> None:
        while self._held and size + sum(held for _, held in self._held.values()) > self._capacity:
            self._held.popitem(last=False)


def hot_store(storage: Storage | Path, copies: Any) -> ArtifactStore:
    """An artifact store whose large files are read from the object store.

    Args:
        storage: of the run, or its folder.
        copies: the handle of a ``HotCopies`` actor.
    """
    store: ArtifactStore
    # only what a stage is using: more would keep objects that were let go in the object store
    read: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()

    def read_blob(artifact: Artifact, name: str) -> np.ndarray:
        if store.size(artifact, name) <= _SMALL_BYTES:
            return store.map_blob(artifact, name)
        sha256 = artifact.blobs[name]
        image = read.get(sha256)
        if image is None:
            image = read[sha256] = _shared(copies, artifact, name, store)
        return image

    store = ArtifactStore(storage, read_blob)
    return store


def _shared(copies: Any, artifact: Artifact, name: str, store: ArtifactStore) -> np.ndarray:
    """The object's bytes; where it is lost, late or too large, a map of the durable copy, which is shared as well."""
    try:
        references = ray.get(copies.reference.remote(artifact, name), timeout=_READ_TIMEOUT_S)
        if references:
            image: np.ndarray = ray.get(references[0], timeout=_READ_TIMEOUT_S)
            return image
    except (ray.exceptions.RayError, TimeoutError):
        pass
    return store.map_blob(artifact, name)
