"""A run's folder under the storage: claimed and held before anything is computed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raydisc.errors import InputError
from raydisc.experiment import RESERVED_NAMES, Experiment, load_experiment

_LEAST_FREE_BYTES = 2**28


def storage_folder(storage: str) -> Path:
    """The storage as an absolute path.

    Raises:
        InputError: it is an address and not a folder.
    """
    if "://" in storage:
        raise InputError(f"storage: '{storage}' is an address, but only folders that every node sees are supported")
    return Path(storage).expanduser().absolute()


@contextmanager
def claimed_folder(storage: Path, experiment: Experiment) -> Iterator[Path]:
    """The run's folder, with the resolved experiment in it, held against other drivers meanwhile.

    Raises:
        InputError: the storage cannot be written, is full, has a run of this name with another experiment, or that run
            is running.
    """
    folder = storage / experiment.name
    try:
        for needed in (folder, *(storage / name for name in RESERVED_NAMES)):
            needed.mkdir(parents=True, exist_ok=True)
            probe = needed / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        _refuse_full(folder, experiment.storage)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"storage: '{experiment.storage}' cannot be written ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"name: the run '{experiment.name}' is running already; wait, or give a --name") from error
        _settle(folder, experiment)
        yield folder


def _refuse_full(folder: Path, storage: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        raise InputError(
            f"storage: '{storage}' has {free / 2**20:.0f} MiB left, but a run needs at least "
            f"{_LEAST_FREE_BYTES / 2**20:.0f} MiB"
        )


def _settle(folder: Path, experiment: Experiment) -> None:
    resolved = folder / "experiment.yaml"
    if resolved.is_file() and _fingerprint(resolved) != experiment.fingerprint():
        raise InputError(
            f"name: a run '{experiment.name}' with another experiment lies in '{experiment.storage}'; "
            "give this one another name (--name), or remove that folder"
        )
    temporary = folder / f".experiment-{os.getpid()}.yaml"
    temporary.write_text(experiment.to_yaml())
    temporary.replace(resolved)


def _fingerprint(resolved: Path) -> str | None:
    """Of the experiment in a file; None where this version of raydisc cannot read it."""
    try:
        return load_experiment(resolved).fingerprint()
    except InputError:
        return None
