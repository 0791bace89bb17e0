"""The job service of a cluster, and the state of raydisc's jobs there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from raydisc.errors import InputError, reason_of
from raydisc.exit_codes import BAD_INPUT, DONE, FAILED, STOPPED

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

OURS = "raydisc"
"""The key in a job's metadata that marks jobs of raydisc; its value is the version."""

_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
"""Errors of jobs whose driver died with its supervising process, which was killed (for example for memory)."""


@dataclass(frozen=True)
class Job:
    """A job of raydisc on a cluster.

    Attributes:
        id: The name of the job on the cluster.
        run: The name of the run.
        storage: The storage of the run.
        state: ``waiting``, ``running``, ``finished``, ``failed``, or ``interrupted`` if the run can be continued.
        exit_code: The exit code, as that of ``raydisc run``; None before the job has ended.
        started: The time of the start in UTC as ISO 8601; None before the start.
        ended: The time of the end in UTC as ISO 8601; None before the end.
        message: Ray's message about the job, on one line.
    """

    id: str
    run: str
    storage: str
    state: str
    exit_code: int | None
    started: str | None
    ended: str | None
    message: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary for JSON."""
        return asdict(self)


def named_address(address: str | None) -> str:
    """Return the address of the cluster, given on the command line or by the environment.

    Raises:
        InputError: No address is given.
    """
    found = next(filter(None, [address, *(os.environ.get(name) for name in _ADDRESSES)]), None)
    if found is None:
        raise InputError(
            "no cluster is named: give --address http://HEAD:8265, or auto for this machine, or set RAY_ADDRESS"
        )
    return found


def connect(address: str | None) -> JobSubmissionClient:
    """Connect to the cluster with an address, or to that of the environment.

    The client authenticates as Ray does: by ``RAY_AUTH_MODE`` with ``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``.

    Raises:
        InputError: No cluster is named, it cannot be reached, or it refuses this client.
    """
    wanted = named_address(address)
    with in_one_sentence(wanted), _environment_without(_ADDRESSES):
        from ray.job_submission import JobSubmissionClient

        for chatty in (
            "dashboard.modules.dashboard_sdk",
            "dashboard.modules.job.sdk",
            "_private.runtime_env.packaging",
        ):
            logging.getLogger(f"ray.{chatty}").setLevel(logging.WARNING)
        return JobSubmissionClient(wanted)


@contextmanager
def in_one_sentence(address: str) -> Iterator[None]:
    """Turn errors of Ray's client into an ``InputError`` with one sentence."""
    from ray.exceptions import AuthenticationError, RaySystemError

    try:
        yield
    except AuthenticationError as error:
        raise InputError(
            f"the cluster at {address} refuses this client: set RAY_AUTH_MODE=token and the token as "
            "RAY_AUTH_TOKEN_PATH=FILE or RAY_AUTH_TOKEN"
        ) from error
    except (OSError, RaySystemError) as error:
        raise InputError(
            f"no cluster can be reached at {address} ({type(error).__name__}); check that it is running, that "
            "the port of its dashboard (8265) can be reached, and that RAY_AUTH_MODE=token is set if it needs a token"
        ) from error
    except (RuntimeError, ValueError, AssertionError) as error:
        if "ray[default]" in str(error):
            raise InputError("Ray's job service is not installed: pip install 'raydisc[cluster]'") from error
        raise InputError(f"the cluster at {address}: {reason_of(error)}") from error


def job_named(client: JobSubmissionClient, name: str) -> Job:
    """Return the state of a job.

    Raises:
        InputError: The cluster has no such job or cannot be reached.
    """
    with in_one_sentence(client.get_address()):
        found = [job for job in client.list_jobs() if job.submission_id == name]
    if not found:
        raise InputError(f"the cluster at {client.get_address()} has no job '{name}'; `raydisc status` lists its jobs")
    return job_of(found[0])


def jobs_of(client: JobSubmissionClient) -> list[Job]:
    """Return raydisc's jobs on the cluster, the latest first.

    Raises:
        InputError: The cluster cannot be reached.
    """
    with in_one_sentence(client.get_address()):
        ours = [job for job in client.list_jobs() if OURS in (job.metadata or {})]
    return [job_of(job) for job in sorted(ours, key=lambda job: job.start_time or 0, reverse=True)]


def job_of(details: JobDetails) -> Job:
    """Return a job from the details that Ray reports."""
    code, metadata = _exit_code(details), details.metadata or {}
    waiting = "running" if details.status == "RUNNING" else "waiting"
    ended = {DONE: "finished", FAILED: "failed", BAD_INPUT: "failed", STOPPED: "interrupted"}
    return Job(
        id=details.submission_id or "",
        run=metadata.get("run", ""),
        storage=metadata.get("storage", ""),
        state=waiting if code is None else ended[code],
        exit_code=code,
        started=_when(details.start_time),
        ended=_when(details.end_time),
        message=(details.message or "").partition("\n")[0].partition(", last available logs")[0],
    )


def _exit_code(details: JobDetails) -> int | None:
    """Return the exit code of the driver, because Ray's own status is only success or failure."""
    if not details.status.is_terminal():
        return None
    code = details.driver_exit_code
    if details.status == "STOPPED" or (code is None and details.error_type in _LOST):
        return STOPPED
    if code is None:
        return DONE if details.status == "SUCCEEDED" else FAILED
    if code < 0 or code > 128:  # the driver was killed; its finished stages are kept
        return STOPPED
    return code if code in (DONE, BAD_INPUT, STOPPED) else FAILED


def _when(milliseconds: int | None) -> str | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds") if milliseconds else None


@contextmanager
def _environment_without(names: tuple[str, ...]) -> Iterator[None]:
    """Hide variables for a while; to Ray they take precedence over a given address."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
