"""A Ray session: the one that the process has, a cluster's, or a local one that listens on loopback only."""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from raydisc.errors import InputError, reason_of
from raydisc.runs.machine import cores
from raydisc.runtime.private_folder import private_folder, remove_folder
from raydisc.runtime.ray_internals import isolated_job, reread_loopback_setting

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
"""Ray and Tune leave the terminal to the reporter, and trials stay in the user's folder."""

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Every port of a local session binds 127.0.0.1."""


_ANSWER_S = 5.0
"""Seconds in which a cluster's address has to answer."""


def starts_here() -> bool:
    """Whether the session is to be a local one that has not been started yet."""
    ray = sys.modules.get("ray")
    return not os.environ.get("RAY_ADDRESS") and not (ray is not None and ray.is_initialized())


@contextmanager
def ray_session() -> Iterator[None]:
    """Use the session that this process has, or the cluster that ``RAY_ADDRESS`` names, or start a local one.

    A local session ends with the ``with`` block, and asks for a token, as Ray does by default. Workers import nothing
    from the current folder, unless the process had joined Ray before.

    Raises:
        InputError: No cluster answers at the address, the cluster refuses this process, or there is no folder for the
            temporary files of a local session.
    """
    local = not os.environ.get("RAY_ADDRESS")
    for name, value in {**_QUIET, **(_LOOPBACK if local else {})}.items():
        os.environ.setdefault(name, value)
    if local and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN_PATH"] = _token()
    import ray  # only now: Ray reads these variables when it is imported

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    if local:
        with _local_session():
            yield
        return
    _join(os.environ["RAY_ADDRESS"])
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _local_session() -> Iterator[None]:
    """Start Ray on this machine and end it, with its files and sockets in a folder that only this user can read."""
    import ray

    reread_loopback_setting()
    # Ray does not notice when this process may use only some of the cores
    limit = cores() if cores() < (os.cpu_count() or 1) else None
    folder = private_folder().path / "ray"
    try:
        ray.init(
            address="local",
            num_cpus=limit,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            job_config=isolated_job(),
            _temp_dir=str(folder),
        )
        yield
    finally:
        try:
            ray.shutdown()
        finally:
            remove_folder(folder)


def _join(address: str) -> None:
    """Connect to a cluster; one that does not answer is noticed at once, while Ray would take minutes."""
    import ray
    from ray.job_config import JobConfig

    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
        # a client (ray://) sends its job to the cluster, which adds none of its folders to any path
        job = JobConfig() if address.startswith("ray://") else isolated_job()
        ray.init(log_to_driver=False, logging_level=logging.ERROR, job_config=job)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise InputError(
            f"no Ray cluster lets this process in at '{address}' ({reason_of(error)}); start one (ray start --head), "
            "give the address of one that runs, or, where it asks for a token, set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH"
        ) from error


@cache
def _token() -> str:
    """Return the path of a token file in the private folder of this process.

    There is one for all sessions of the process, since Ray keeps the first that it has read. Left to itself, Ray writes
    one that everybody on the machine can read.
    """
    path = private_folder().path / "token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return str(path)
