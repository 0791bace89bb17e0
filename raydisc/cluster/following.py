"""A job's log as it grows, over connections that break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from raydisc.cluster.client import Job, job_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_PATIENCE_S = 300.0
_PAUSE_S = 1.0


def follow(client: JobSubmissionClient, job_id: str, write: Callable[[str], None]) -> Job:
    """Pass on a job's log until the job has ended; gives what became of it.

    Args:
        client: Of its cluster.
        job_id: The job.
        write: Is given the log, each part once.

    Raises:
        ConnectionError: The cluster has not answered for five minutes.
    """
    import aiohttp
    from ray.exceptions import RayError

    told = 0
    silent_since: float | None = None

    async def tail() -> None:
        nonlocal told, silent_since
        position = 0
        async for text in client.tail_job_logs(job_id):
            silent_since = None
            new = text[max(0, told - position) :]
            position += len(text)
            if new:
                write(new)
                told = position

    while True:
        try:
            asyncio.run(tail())
            details = client.get_job_info(job_id)
            if details.status.is_terminal():
                return job_of(details)
            silent_since = None
        except (aiohttp.ClientError, OSError, RuntimeError, RayError) as error:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > _PATIENCE_S:
                raise ConnectionError(f"the cluster at {client.get_address()} has stopped answering") from error
        time.sleep(_PAUSE_S)
