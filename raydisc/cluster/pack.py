"""The files that travel with a job: the resolved experiment, the small files that it names, and raydisc's own code."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.models.checkpoint_files import BESIDE_WEIGHTS, WEIGHTS

LIMIT_BYTES = 64 * 2**20
"""The limit of all packed files together, because Ray keeps packages in the memory of the head."""

EXPERIMENT_FILE = "experiment.yaml"
REQUIREMENTS_FILE = "requirements.txt"

_ELSEWHERE = "put it where the cluster can read it, and name that folder with --shared FOLDER"


def storage_seen(storage: str, here: bool) -> str:
    """Return the storage in the form that the cluster receives: an address or an absolute folder.

    Args:
        storage: As in the experiment.
        here: Whether the cluster was found on this machine, so that folders have the same names on both.

    Raises:
        InputError: The path would mean another folder on the cluster.
    """
    if "://" in storage:
        return storage
    if here:
        return str(Path(storage).expanduser().absolute())
    if not Path(storage).is_absolute():
        raise InputError(
            f"storage: '{storage}' is a folder of this machine, which the cluster cannot read; give --storage "
            "an absolute folder that all its nodes can read, or an address such as s3://BUCKET/FOLDER"
        )
    return storage


def pack(experiment: Experiment, requirements: Iterable[str], folder: Path, shared: Sequence[Path] = ()) -> None:
    """Write the folder that travels with a job.

    Args:
        experiment: What is to be run, its storage as the cluster sees it.
        requirements: What must be installed there, one requirement a line.
        folder: Where to; it must not exist.
        shared: Folders that the cluster sees under the same names: what lies in them is named, not packed.

    Raises:
        InputError: A file that the experiment names is hidden, does not exist, or makes the pack too large.
    """
    folder.mkdir(parents=True)
    packing = _Packing(folder, [path.expanduser().absolute() for path in shared])
    named = {
        "task": {key: packing.file(f"task.{key}", getattr(experiment.task, key)) for key in _DATA},
        "teacher": {
            key: packing.checkpoint(f"teacher.{key}", getattr(experiment.teacher, key), patterns)
            for key, patterns in _CHECKPOINTS.items()
        },
    }
    sections = {key: getattr(experiment, key).model_copy(update=names) for key, names in named.items()}
    (folder / EXPERIMENT_FILE).write_text(experiment.model_copy(update=sections).to_yaml())
    (folder / REQUIREMENTS_FILE).write_text("".join(f"{line}\n" for line in requirements))


def pack_code(folder: Path) -> Path:
    """Copy the Python files of this raydisc into a folder, and return the package's own folder there."""
    source, target = Path(__file__).parents[1], folder / "raydisc"
    for path in sorted(source.rglob("*.py")):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return target


_DATA = ("train", "validation", "test")
_CHECKPOINTS = {"model": (WEIGHTS, *BESIDE_WEIGHTS), "tokenizer": BESIDE_WEIGHTS}


@dataclass
class _Packing:
    """Copies what an experiment names into the pack, and says what it is called there.

    Names in the pack are relative: every process of the job that reads files enters the unpacked folder, on whichever
    node it is. They keep a file's own folder, which names the task.
    """

    folder: Path
    shared: Sequence[Path]
    _bytes: int = field(default=0, init=False)

    def file(self, place: str, name: str | None) -> str | None:
        """Pack a data file."""
        path = self._here(place, name)
        if path is None:
            return name
        if not path.is_file():
            raise InputError(f"{place}: '{name}' is not a file")
        return self._copied(place, path, [path], path.parent.name)

    def checkpoint(self, place: str, name: str | None, patterns: Sequence[str]) -> str | None:
        """Pack what is read of a checkpoint's folder; a name of the hub or of a Python package stays."""
        if name is None or name.startswith("package:") or not Path(name).expanduser().exists():
            return name
        path = self._here(place, name)
        if path is None:
            return name
        files = sorted({file for pattern in patterns for file in path.glob(pattern) if file.name[0] != "."})
        return self._copied(place, path, files, path.name)

    def _here(self, place: str, name: str | None) -> Path | None:
        """Return the path of a file or folder that has to be packed, or None if the cluster has it itself."""
        if name is None or "://" in name:
            return None
        path = Path(name).expanduser()
        if path.absolute().name.startswith("."):
            raise InputError(f"{place}: '{name}' is a hidden file, and those are never sent; give it another name")
        if path.is_absolute() and (not path.exists() or any(path.is_relative_to(folder) for folder in self.shared)):
            return None
        if not path.exists():
            raise InputError(f"{place}: the file '{name}' does not exist; relative paths start at the current folder")
        return path.absolute()

    def _copied(self, place: str, path: Path, files: Sequence[Path], within: str) -> str:
        self._bytes += sum(file.stat().st_size for file in files)
        if self._bytes > LIMIT_BYTES:
            raise InputError(
                f"{place}: with '{path}' the files to be sent are {self._bytes / 2**20:.0f} MiB, more than the "
                f"{LIMIT_BYTES / 2**20:.0f} that travel with a job; {_ELSEWHERE}"
            )
        target = self.folder / "inputs" / place / (within.lstrip(".") or "data")
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, target / file.name)
        named = target if path.is_dir() else target / path.name
        return str(named.relative_to(self.folder))
