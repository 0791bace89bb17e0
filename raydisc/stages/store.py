"""The artifact store: finished stages by key in the storage, written atomically and checked by hash when read."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from raydisc.errors import StorageError
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.checkpoint_upload import carried_checkpoint
from raydisc.stages.facts import PlatformFacts
from raydisc.stages.kinds import kind_named
from raydisc.storage.address import storage_at
from raydisc.storage.folder import Storage
from raydisc.storage.fsync import sync

Blob = Callable[[Path], None]
"""Writes a file of an artifact."""

MANIFEST = "manifest.json"


class AlteredArtifact(StorageError):
    """A file of an artifact is not what was written.

    Attributes:
        key: The key of the artifact.
        file: The name of the file.
    """

    def __init__(self, message: str, key: str, file: str) -> None:
        """All three are its arguments, so that it can be pickled."""
        super().__init__(message, key, file)
        self.key, self.file = key, file

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


def computed_anew(error: AlteredArtifact) -> str:
    """Return the sentence on an artifact that was altered and removed."""
    return f"storage: the file {error.file} of artifact {error.key} was not what was written; it is computed again"


class BlobReader(Protocol):
    """Reads the bytes of an artifact's file as a read-only array."""

    def __call__(self, artifact: Artifact, name: str) -> np.ndarray:
        """Return the file as ``[bytes]`` uint8."""
        ...


class ArtifactStore:
    """Durable artifacts under ``STORAGE/artifacts``.

    Args:
        storage: The storage, or its folder.
        read_blob: Reads the bytes of files; by default this machine's files are mapped into memory.
    """

    def __init__(self, storage: Storage | Path, read_blob: BlobReader | None = None) -> None:
        """Make the folder where it is missing."""
        self._storage = storage_at(storage)
        self._artifacts = self._storage / "artifacts"
        self.root = self._artifacts.folder
        self.root.mkdir(parents=True, exist_ok=True)
        self._read_blob = read_blob or self.map_blob
        self._checked: set[tuple[str, str, str]] = set()

    def find(self, key: str) -> Artifact | None:
        """Find a finished stage's artifact; None where it is not there.

        Raises:
            AlteredArtifact: Its manifest cannot be read, is another artifact's, or lacks the facts of its kind.
        """
        artifact = self._kept(key)
        if artifact is not None:
            try:
                kind_named(artifact.kind).facts.of(artifact)
                PlatformFacts.of(artifact)
            except ValueError as error:
                raise self._altered(f"artifact {key}:", key, MANIFEST) from error
        return artifact

    def _kept(self, key: str) -> Artifact | None:
        """Return the artifact of a manifest, whose facts may be those that a plan foresees."""
        manifest = self._artifacts.read(f"{key}/{MANIFEST}")
        if manifest is None:
            return None
        try:
            artifact = Artifact.from_manifest(json.loads(manifest))
            if artifact.key != key:
                raise ValueError(f"it is that of {artifact.key}")
            return artifact
        except (ValueError, RecursionError) as error:
            raise self._altered(f"artifact {key}:", key, MANIFEST) from error

    def blob(self, artifact: Artifact, name: str) -> np.ndarray:
        """Return a file's bytes ``[bytes]`` uint8, shared and read-only."""
        return self._read_blob(artifact, name)

    def json(self, artifact: Artifact, name: str) -> Any:
        """Read a JSON file's content."""
        with self.reading(artifact, name):
            return json.loads(self.blob(artifact, name).tobytes())

    @contextmanager
    def reading(self, artifact: Artifact, name: str) -> Iterator[None]:
        """While what a file says is made out.

        Raises:
            AlteredArtifact: The file does not say what such a file does, whatever its hash.
        """
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
            raise self._altered_file(artifact, name) from error

    def map_blob(self, artifact: Artifact, name: str) -> np.ndarray:
        """Map a file into memory, after its hash was checked once in this process.

        Raises:
            AlteredArtifact: The file is missing, truncated or altered, or lies elsewhere.
        """
        path = self.path(artifact, name)
        sha256 = artifact.blobs.get(name, "")
        place = (artifact.key, name, sha256)
        if place not in self._checked:
            if not _is(path, sha256):
                self._artifacts.fetch_again(f"{artifact.key}/{name}")
                if not _is(path, sha256):
                    raise self._altered_file(artifact, name)
            self._checked.add(place)
        if path.stat().st_size == 0:
            return np.empty(0, dtype=np.uint8)
        return np.memmap(path, dtype=np.uint8, mode="r")

    def _altered_file(self, artifact: Artifact, name: str) -> AlteredArtifact:
        return self._altered(f"artifact {artifact.kind} {artifact.key}: the file", artifact.key, name)

    def _altered(self, what: str, key: str, name: str) -> AlteredArtifact:
        return AlteredArtifact(
            f"{what} {name} is not what was written; remove the folder '{self._artifacts / key}' and run again to "
            "compute it again",
            key,
            name,
        )

    def discard_altered(self, key: str) -> bool:
        """Remove a finished stage's artifact if a file of it is not what was written; whether it was so.

        Raises:
            Held: Another process holds the key; it may be computing the stage again.
        """
        with self.holding(key, wait=False):
            try:
                artifact = self.find(key)
                if artifact is None:
                    return False
                for name in artifact.blobs:
                    self._checked.discard((key, name, artifact.blobs[name]))
                    self.map_blob(artifact, name)
            except AlteredArtifact:
                self._artifacts.remove(key)
                return True
        return False

    def path(self, artifact: Artifact, name: str) -> Path:
        """Return the path of a file on this machine, where it may be missing.

        Raises:
            AlteredArtifact: A link leads out of the artifact's folder.
        """
        folder = self.root / artifact.key
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise self._altered_file(artifact, name)
        return folder / name

    def size(self, artifact: Artifact, name: str) -> int:
        """Bytes of a file."""
        path = self.path(artifact, name)
        return path.stat().st_size if path.is_file() else self._artifacts.size(f"{artifact.key}/{name}")

    def checkpoint_folder(self, key: str) -> Path:
        """Return the folder on this machine of what a stage needs to go on after a crash."""
        return self.root / f"{key}.partial"

    def carrying(self, key: str) -> AbstractContextManager[None]:
        """Bring the checkpoint that another machine has left, and let others see those that are written meanwhile."""
        return carried_checkpoint(self._artifacts, f"{key}.partial")

    def commit(self, promise: Artifact, facts: Mapping[str, Any], cost: Cost, blobs: Mapping[str, Blob]) -> Artifact:
        """Write a finished stage: all of it or nothing; the caller holds its key."""
        for left_by_the_dead in self.root.glob(f".writing-{promise.key}-*"):
            shutil.rmtree(left_by_the_dead, ignore_errors=True)
        temporary = self.root / f".writing-{promise.key}-{uuid.uuid4().hex[:8]}"
        try:
            artifact = _write(temporary, promise, facts, cost, blobs)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)  # the disk may be full
            raise
        if self._artifacts.has(f"{promise.key}/{MANIFEST}"):
            shutil.rmtree(temporary)
        else:
            final = self.root / promise.key
            shutil.rmtree(final, ignore_errors=True)  # that nobody has ever seen
            temporary.rename(final)
            sync(self.root)
            self._artifacts.publish(promise.key, last=MANIFEST)
        self._artifacts.remove(f"{promise.key}.partial")
        return self._kept(promise.key) or artifact

    def holding(self, key: str, wait: bool = True) -> AbstractContextManager[None]:
        """Hold a key while its stage is computed; others wait, or meet ``Held``. A holder that dies frees it."""
        return self._storage.holding(f"locks/{key}", wait)


def _write(
    folder: Path, promise: Artifact, facts: Mapping[str, Any], cost: Cost, blobs: Mapping[str, Blob]
) -> Artifact:
    folder.mkdir()
    hashes = {}
    for name, write in blobs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        hashes[name] = _sha256(path)
        sync(path)
    artifact = Artifact(promise.key, promise.kind, promise.inputs, dict(facts), cost, hashes)
    (folder / MANIFEST).write_text(json.dumps(artifact.manifest(), indent=1))
    sync(folder / MANIFEST)
    return artifact


def _is(path: Path, sha256: str) -> bool:
    """Whether a file is there and has this hash."""
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
