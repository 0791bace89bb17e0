"""A run's folder under the storage: claimed and held before anything is computed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from raydisc.config.experiment import RESERVED_NAMES, Experiment, load_experiment
from raydisc.errors import InputError, StorageError
from raydisc.storage.folder import Held, Storage

_LEAST_FREE_BYTES = 2**28


RESOLVED = "experiment.yaml"
"""The resolved experiment in a run's folder."""


@contextmanager
def claimed_folder(storage: Storage, experiment: Experiment) -> Iterator[Storage]:
    """Write the resolved experiment into a run's folder, and hold the folder against other drivers meanwhile.

    Yields:
        The run's folder.

    Raises:
        InputError: The storage cannot be written, is full, or has a run of this name that has another experiment or is
            still running.
    """
    run = storage / experiment.name
    try:
        for name in (experiment.name, *RESERVED_NAMES):
            _refuse_unwritable(storage, f"{name}/.probe-{os.getpid()}")
        _refuse_full(run.folder, experiment.storage)
    except OSError as error:
        raise InputError(f"storage: '{experiment.storage}' cannot be written ({error.strerror})") from error
    except StorageError as error:
        raise InputError(str(error)) from error
    with ExitStack() as held:
        try:
            held.enter_context(run.holding(".lock", wait=False))
        except Held as error:
            raise InputError(f"name: the run '{experiment.name}' is running already; wait, or give a --name") from error
        _settle(run, experiment)
        yield run


def _refuse_unwritable(storage: Storage, probe: str) -> None:
    path = storage.path(probe)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    storage.publish(probe)
    storage.remove(probe)


def _refuse_full(folder: Path, storage: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        raise InputError(
            f"storage: '{storage}' has {free / 2**20:.0f} MiB left, but a run needs at least "
            f"{_LEAST_FREE_BYTES / 2**20:.0f} MiB"
        )


def _settle(run: Storage, experiment: Experiment) -> None:
    run.fetch_again(RESOLVED)
    resolved = run.path(RESOLVED)
    if run.has(RESOLVED) and _fingerprint(resolved) != experiment.fingerprint():
        raise InputError(
            f"name: a run '{experiment.name}' with another experiment lies in '{experiment.storage}'; "
            "give this one another name (--name), or remove that folder"
        )
    temporary = run.folder / f".experiment-{os.getpid()}.yaml"
    temporary.write_text(experiment.to_yaml())
    temporary.replace(resolved)
    run.publish(RESOLVED)


def _fingerprint(resolved: Path) -> str | None:
    """Return the fingerprint of the experiment in a file; None if this version of raydisc cannot read it."""
    try:
        return load_experiment(resolved).fingerprint()
    except InputError:
        return None
