"""Hot copies of artifacts in Ray's object store: one copy in shared memory for all processes of a node."""

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
"""The size up to which files are read from the durable copy, since an object would cost more than it saves."""

_READ_TIMEOUT_S = 120.0

_WORDS = "words"
"""The thread that answers while another one reads a file, which may take minutes."""


# its stubs lack the groups
@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, concurrency_groups={_WORDS: 1})  # type: ignore[call-overload]
class HotCopies:
    """An actor that owns the objects, so that they outlive trials; after a restart it reads the durable copies again.

    It also passes the driver's requests to stop on to the trials.

    Args:
        storage: The storage's path or address.
        capacity_bytes: The bytes of objects to keep; the least recently read ones are released first.
    """

    def __init__(self, storage: str, capacity_bytes: int) -> None:
        """Start without copies."""
        self._store = ArtifactStore(open_storage(storage))
        self._capacity = capacity_bytes
        self._held: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._stopping = False
        self._ended: dict[str, int] = {}

    def reference(self, artifact: Artifact, name: str) -> list[Any]:
        """Return a list with one reference to a file's bytes; inside a list, Ray passes references, not values.

        The list is empty if the file is larger than the capacity.

        Raises:
            AlteredArtifact: The durable copy is not what was written.
        """
        sha256 = artifact.blobs[name]
        if sha256 not in self._held:
            if self._store.size(artifact, name) > self._capacity:
                return []
            # a map keeps the bytes out of private memory, and Ray copies the bytes of a plain array once
            image = np.asarray(self._store.map_blob(artifact, name))
            self._make_room(len(image))
            self._held[sha256] = (ray.put(image), len(image))
        self._held.move_to_end(sha256)
        return [self._held[sha256][0]]

    @ray.method(concurrency_group=_WORDS)
    def stop(self) -> None:
        """Note that all trials have to stop; the driver repeats this, since the actor may be restarted."""
        self._stopping = True

    @ray.method(concurrency_group=_WORDS)
    def stopping(self) -> bool:
        """Whether all trials have to stop."""
        return self._stopping

    @ray.method(concurrency_group=_WORDS)
    def end(self, job: str, evaluation: int) -> None:
        """End a job before its time, at one of its evaluations, as the scheduler of trials has decided."""
        self._ended[job] = evaluation

    @ray.method(concurrency_group=_WORDS)
    def is_ended(self, job: str, evaluation: int) -> bool:
        """Whether a job has been ended at an evaluation or before it; one that is tried again may be before it."""
        return job in self._ended and evaluation >= self._ended[job]

    def _make_room(self, size: int) -> None:
        while self._held and size + sum(held for _, held in self._held.values()) > self._capacity:
            self._held.popitem(last=False)


def hot_store(storage: Storage | Path, copies: Any) -> ArtifactStore:
    """Return an artifact store whose large files are read from the object store.

    Args:
        storage: The storage of the run, or its folder.
        copies: The handle of a ``HotCopies`` actor.
    """
    store: ArtifactStore
    # weak references, since others would keep released objects in the object store
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
    """Return an object's bytes, or a map of the durable copy where the object is lost, late or too large."""
    try:
        references = ray.get(copies.reference.remote(artifact, name), timeout=_READ_TIMEOUT_S)
        if references:
            image: np.ndarray = ray.get(references[0], timeout=_READ_TIMEOUT_S)
            return image
    except (ray.exceptions.RayError, TimeoutError):
        pass
    return store.map_blob(artifact, name)
