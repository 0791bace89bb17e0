"""What a job's end means: Ray's status knows success and failure, the driver's exit code more."""

import pytest

pytest.importorskip("aiohttp", reason="the job client is of ray[default]")

from ray.job_submission import JobDetails, JobStatus, JobType  # noqa: E402

from raydisc.cluster.client import job_of  # noqa: E402


@pytest.mark.parametrize(
    ("status", "driver", "error", "state", "code"),
    [
        ("PENDING", None, None, "waiting", None),
        ("RUNNING", None, None, "running", None),
        ("SUCCEEDED", 0, None, "finished", 0),
        ("FAILED", 1, "JOB_ENTRYPOINT_COMMAND_ERROR", "failed", 1),
        ("FAILED", 2, "JOB_ENTRYPOINT_COMMAND_ERROR", "failed", 2),
        ("FAILED", 3, "JOB_ENTRYPOINT_COMMAND_ERROR", "interrupted", 3),
        ("FAILED", 127, "JOB_ENTRYPOINT_COMMAND_ERROR", "failed", 1),
        ("FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR", "interrupted", 3),
        ("FAILED", 137, "JOB_ENTRYPOINT_COMMAND_ERROR", "interrupted", 3),
        ("FAILED", None, "RUNTIME_ENV_SETUP_FAILURE", "failed", 1),
        ("FAILED", None, "JOB_SUPERVISOR_ACTOR_DIED", "interrupted", 3),
        ("FAILED", None, "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", "interrupted", 3),
        ("STOPPED", None, None, "interrupted", 3),
    ],
)
def test_exit_codes(status: str, driver: int | None, error: str | None, state: str, code: int | None) -> None:
    details = JobDetails(
        type=JobType.SUBMISSION,
        submission_id="tiny-1",
        status=JobStatus(status),
        entrypoint="",
        error_type=error,
        driver_exit_code=driver,
        message="Job entrypoint command failed with exit code 1, last available logs (truncated):\nline",
        start_time=1_700_000_000_000,
        metadata={"raydisc": "1", "run": "tiny", "storage": "/s"},
    )
    job = job_of(details)
    assert (job.state, job.exit_code) == (state, code)
    assert job.message == "Job entrypoint command failed with exit code 1"
    assert (job.id, job.run, job.storage, job.started) == ("tiny-1", "tiny", "/s", "2023-11-14T22:13:20+00:00")
