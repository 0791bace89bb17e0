"""Every touch of Ray's private state, with the public behaviour that it stands in for.

Ray may move any of this in a minor release. Nothing else in raydisc reaches behind Ray's public interface, and one test
calls every function here against the installed Ray, so that a release which moves something fails there, by name.

Ray is imported inside the functions, because it reads its environment variables when it is first imported, and some of
these functions run before that environment is complete.
"""

import os
from collections.abc import Callable
from typing import Any


def reread_loopback_setting() -> None:
    """Make Ray bind as the environment now says.

    Ray reads ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER`` once, when it is imported. A user who imported Ray before raydisc
    set the variable would otherwise get a session that listens on every interface.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] != "0"


def raylet_socket() -> str | None:
    """Return the path of the socket that this node's raylet listens on, or None in a Ray client (``ray://``)."""
    from ray._private.worker import global_worker

    node = global_worker.node
    return None if node is None else str(node.raylet_socket_name)


def forget_failures(trial: Any) -> None:
    """Reset the number of failures that Tune holds against a trial's ``max_failures``."""
    trial.run_metadata.num_failures = 0


def actor_of(trial: Any) -> Any:
    """Return the handle of the actor that runs a Tune trial, or None while there is none."""
    return trial.temporary_state.ray_actor


def keep_cloud_keys_off_command_lines() -> None:
    """Keep Tune from copying the driver's cloud credentials to the command lines of its trials.

    Ray writes those command lines to its logs. Processes of a local session inherit the variables anyway, and the nodes
    of a cluster have their own.
    """
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
        [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
    )


def mix_into_trainable(function: Callable[..., Any], mixin: type) -> None:
    """Have Tune derive the trainable that it makes of a function from a mixin as well."""
    function.__mixins__ = (mixin,)  # type: ignore[attr-defined]


def isolated_job() -> Any:
    """Return the configuration of a job whose workers have no folder of the driver on their import path.

    Left to itself, Ray puts the driver's current folder and the folder of its script first on the path of every
    worker, so that a file named ``datasets.py`` there would be imported instead of the package. Ray's only documented
    way out, a ``working_dir``, would have every worker wait for a copy of that folder and leave the user's. Installed
    packages and ``PYTHONPATH`` reach the workers without this list.
    """
    from ray.job_config import JobConfig

    class IsolatedJob(JobConfig):
        @property
        def _py_driver_sys_path(self) -> list[str]:
            return []  # a new one each time, so that what Ray appends to it is lost

        @_py_driver_sys_path.setter
        def _py_driver_sys_path(self, folders: list[str]) -> None:
            """Ignore what Ray sets."""

    return IsolatedJob()
