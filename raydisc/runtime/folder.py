"""A run's folder under the storage: claimed before anything is computed."""

import os
import shutil
from pathlib import Path

from raydisc.errors import InputError
from raydisc.experiment import Experiment, load_experiment

_LEAST_FREE_BYTES = 2**28


def claim_folder(storage: Path, experiment: Experiment) -> Path:
    """The run's folder, with the resolved experiment in it.

    Raises:
        InputError: the storage cannot be written, is full, or has a run of this name with another experiment.
    """
    folder = storage / experiment.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < _LEAST_FREE_BYTES:
            raise InputError(
                f"storage: '{experiment.storage}' has {free / 2**20:.0f} MiB left, but a run needs at least "
                f"{_LEAST_FREE_BYTES / 2**20:.0f} MiB"
            )
        resolved = folder / "experiment.yaml"
        if resolved.is_file() and load_experiment(resolved).fingerprint() != experiment.fingerprint():
            raise InputError(
                f"name: a run '{experiment.name}' with another experiment lies in '{experiment.storage}'; "
                "give this one another name (--name), or remove that folder"
            )
        temporary = folder / f".experiment-{os.getpid()}.yaml"
        temporary.write_text(experiment.to_yaml())
        temporary.replace(resolved)
    except OSError as error:
        raise InputError(f"storage: '{experiment.storage}' cannot be written ({error.strerror})") from error
    return folder
