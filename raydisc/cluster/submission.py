"""An experiment as a job of a Ray cluster."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raydisc.cluster.client import OURS, connect, in_one_sentence, named_address
from raydisc.cluster.environment import pinned, ray_wanted
from raydisc.cluster.extensions import pack_extensions
from raydisc.cluster.pack import LIMIT_BYTES, pack, pack_code, storage_seen
from raydisc.config.experiment import Experiment
from raydisc.runtime.job_folder import JOB_FOLDER

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_WAIT_FOR_AGENT_S = 60.0

Pip = Literal["auto", "none"]

_STOPPING = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""A job that is stopped gets SIGTERM, and has time to write checkpoints and to note where it is."""


def submit(
    experiment: Experiment,
    address: str | None = None,
    pip: Pip = "auto",
    shared: Sequence[Path] = (),
    json: bool = False,
) -> str:
    """Send an experiment to a cluster, which runs it; stages that its storage has are not computed again.

    The code that runs is this raydisc's. With it go the resolved experiment, the small local files that it names, and
    packages that it needs, that extend raydisc and were installed from a folder; such packages from an index are named.

    Args:
        experiment: What to run.
        address: The cluster: ``http://HEAD:8265``, or ``auto`` for the one on this machine; that of ``RAY_ADDRESS``
            if left out.
        pip: ``auto`` has the versions that are installed here installed for the job; ``none`` takes what the cluster
            has, and refuses to run with other versions.
        shared: Folders that the cluster sees under the same names; nothing in them is sent.
        json: Whether the job's log is to end with the comparison as JSON instead of as a table.

    Returns:
        The job's id.

    Example:
        A job needs a Ray cluster, which the tests of docstrings do not start.

        >>> from raydisc import load_experiment
        >>> submit(load_experiment("mine.yaml"), "http://head:8265")  # doctest: +SKIP
        'mine-1f0c93ae'

    Raises:
        InputError: The storage cannot be the cluster's, a file or package cannot be sent, or the cluster cannot be
            reached or refuses this client.
    """
    here = named_address(address) == "auto"
    experiment = experiment.model_copy(update={"storage": storage_seen(experiment.storage, here)})
    requirements = pinned(experiment)
    with tempfile.TemporaryDirectory(prefix="raydisc-job-") as made:
        files = Path(made) / JOB_FOLDER
        pack(experiment, [*requirements, ray_wanted()], files, shared)
        carried = pack_extensions(experiment, Path(made) / "extensions", LIMIT_BYTES)
        environment: dict[str, Any] = {
            "py_modules": [str(folder) for folder in (pack_code(Path(made)), files, *carried)],
            "env_vars": _STOPPING,
        }
        if pip == "auto":
            environment["pip"] = {"packages": requirements, "pip_check": False}
        client = connect(address)
        with in_one_sentence(client.get_address()):
            return _accepted(
                client,
                # without `-P` the folder that the head was started in would be first on the driver's import path
                entrypoint="exec python -P -m raydisc.cluster.job" + (" --json" if json else ""),
                submission_id=f"{experiment.name}-{secrets.token_hex(4)}",
                runtime_env=environment,
                metadata={OURS: metadata.version("raydisc"), "run": experiment.name, "storage": experiment.storage},
            )


def _accepted(client: JobSubmissionClient, **job: Any) -> str:
    """Submit a job; a head that has just been started, or is busy, has nobody to take it for a while."""
    end = time.monotonic() + _WAIT_FOR_AGENT_S
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(1.0)
