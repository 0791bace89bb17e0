"""The artifact store: a folder of finished stages by key, written atomically and checked by hash when read."""

import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from raydisc.durable import sync
from raydisc.stages.artifact import Artifact, Cost

Blob = Callable[[Path], None]
"""Writes a file of an artifact."""

MANIFEST = "manifest.json"


class AlteredArtifact(RuntimeError):
    """A file of an artifact is not what was written."""


class BlobReader(Protocol):
    """Gives the bytes of an artifact's file as a read-only array that is not to be written to."""

    def __call__(self, artifact: Artifact, name: str) -> np.ndarray:
        """The file as ``[bytes]`` uint8."""
        ...


class ArtifactStore:
    """Durable artifacts under ``STORAGE/artifacts``.

    Args:
        storage: the storage folder.
        read_blob: where the bytes of files are read from; by default the folder itself, memory-mapped.
    """

    def __init__(self, storage: Path, read_blob: BlobReader | None = None) -> None:
        """Make the folders where they are missing."""
        self.root = storage / "artifacts"
        self._locks = storage / "locks"
        self.root.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(parents=True, exist_ok=True)
        self._read_blob = read_blob or self.map_blob
        self._checked: set[tuple[str, str]] = set()

    def find(self, key: str) -> Artifact | None:
        """A finished stage's artifact, or none.

        Raises:
            AlteredArtifact: its manifest cannot be read.
        """
        manifest = self.root / key / MANIFEST
        if not manifest.is_file():
            return None
        try:
            return Artifact.from_manifest(json.loads(manifest.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise AlteredArtifact(
                f"artifact {key}: {MANIFEST} is not what was written; "
                f"remove the folder '{manifest.parent}' and run again to compute it anew"
            ) from error

    def blob(self, artifact: Artifact, name: str) -> np.ndarray:
        """A file's bytes ``[bytes]`` uint8, shared and read-only."""
        return self._read_blob(artifact, name)

    def json(self, artifact: Artifact, name: str) -> Any:
        """A JSON file's content."""
        return json.loads(self.blob(artifact, name).tobytes())

    def map_blob(self, artifact: Artifact, name: str) -> np.ndarray:
        """Map a file into memory, after its hash was checked once in this process.

        Raises:
            AlteredArtifact: the file is missing, truncated or altered.
        """
        path = self.path(artifact, name)
        if (artifact.key, name) not in self._checked:
            if not path.is_file() or _sha256(path) != artifact.blobs[name]:
                raise AlteredArtifact(
                    f"artifact {artifact.kind} {artifact.key}: the file {name} is not what was written; "
                    f"remove the folder '{path.parent}' and run again to compute it anew"
                )
            self._checked.add((artifact.key, name))
        if path.stat().st_size == 0:
            return np.empty(0, dtype=np.uint8)
        return np.memmap(path, dtype=np.uint8, mode="r")

    def path(self, artifact: Artifact, name: str) -> Path:
        """Where a file lies."""
        return self.root / artifact.key / name

    def checkpoint_folder(self, key: str) -> Path:
        """Where the stage keeps what it needs to go on after a crash."""
        return self.root / f"{key}.partial"

    def commit(self, promise: Artifact, facts: Mapping[str, Any], cost: Cost, blobs: Mapping[str, Blob]) -> Artifact:
        """Write a finished stage: all of it or nothing; the caller holds its key."""
        for left_by_the_dead in self.root.glob(f".writing-{promise.key}-*"):
            shutil.rmtree(left_by_the_dead, ignore_errors=True)
        temporary = self.root / f".writing-{promise.key}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        hashes = {}
        for name, write in blobs.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            hashes[name] = _sha256(path)
            sync(path)
        artifact = Artifact(promise.key, promise.kind, promise.inputs, dict(facts), cost, hashes)
        (temporary / MANIFEST).write_text(json.dumps(artifact.manifest(), indent=1))
        sync(temporary / MANIFEST)
        final = self.root / promise.key
        if final.exists():
            shutil.rmtree(temporary)
        else:
            temporary.rename(final)
            sync(self.root)
        shutil.rmtree(self.checkpoint_folder(promise.key), ignore_errors=True)
        return self.find(promise.key) or artifact

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Hold a key while its stage is computed; others wait. A holder that dies frees it."""
        with (self._locks / key).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
