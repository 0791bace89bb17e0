"""The commands of ``raydisc`` that communicate with a cluster; each returns the exit code."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from raydisc.cluster.client import Job, connect, in_one_sentence, job_named, jobs_of
from raydisc.cluster.following import follow
from raydisc.cluster.job import RESULT
from raydisc.cluster.submission import submit
from raydisc.config.experiment import Experiment
from raydisc.exit_codes import DONE, FAILED, STOPPED
from raydisc.report.table import Sheet, print_sheets

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_STOP_WITHIN_S = 90.0


def submit_command(experiment: Experiment, options: argparse.Namespace) -> int:
    """Run ``raydisc submit``.

    Print the job's id, or with ``--wait`` its progress on standard error and then the comparison.
    """
    job_id = submit(experiment, options.address, options.pip, options.shared, json=options.json and options.wait)
    client = connect(options.address)
    if not options.wait:
        if options.json:
            print(json.dumps(_as_json(job_named(client, job_id), client), indent=2))
        else:
            print(f"job: {job_id}")
            _hint(job_id, options.address)
        return DONE
    print(f"job: {job_id}", file=sys.stderr)
    log = _Log()
    code = _followed(client, job_id, log, options.address)
    if options.json:
        comparison = json.loads(log.result) if log.result else None
        print(json.dumps({**_as_json(job_named(client, job_id), client), "comparison": comparison}, indent=2))
    else:
        print(log.result, end="")
    return code


def show_job(options: argparse.Namespace) -> int:
    """Run ``raydisc status JOB``."""
    client = connect(options.address)
    job = job_named(client, options.job)
    if options.json:
        print(json.dumps(_as_json(job, client), indent=2))
        return DONE
    for name, value in job.as_dict().items():
        if value not in (None, ""):
            print(f"{name.replace('_', ' ')}: {value}")
    return DONE


def list_jobs(options: argparse.Namespace) -> int:
    """Run ``raydisc status``, or ``raydisc ls`` for a cluster."""
    client = connect(options.address)
    jobs = jobs_of(client)
    if options.json:
        print(json.dumps([_as_json(job, client) for job in jobs], indent=2))
    elif jobs:
        lines = [
            [
                job.id,
                job.run,
                job.state,
                _cell(job.exit_code),
                _cell(job.started)[:19],
                _cell(job.ended)[:19],
                job.storage,
            ]
            for job in jobs
        ]
        columns = ["<job", "<run", "<state", "exit code", "<started (UTC)", "<ended (UTC)", "<storage"]
        print_sheets([Sheet(f"jobs of the cluster at {client.get_address()}", columns, lines)], sys.stdout)
    else:
        print(f"the cluster at {client.get_address()} has no jobs of raydisc yet; send one with `raydisc submit FILE`")
    return DONE


def print_log(options: argparse.Namespace) -> int:
    """Run ``raydisc logs``."""
    client = connect(options.address)
    job = job_named(client, options.job)
    if options.follow:
        return _followed(client, job.id, lambda text: print(text, end="", flush=True), options.address)
    with in_one_sentence(client.get_address()):
        print(client.get_job_logs(job.id), end="")
    return DONE


def stop_job(options: argparse.Namespace) -> int:
    """Run ``raydisc stop``, and return once the job has ended."""
    client = connect(options.address)
    job = job_named(client, options.job)
    if job.exit_code is not None:
        print(f"{job.id} had already ended: {job.state}")
        return DONE
    with in_one_sentence(client.get_address()):
        client.stop_job(job.id)
    until = time.monotonic() + _STOP_WITHIN_S
    while job.exit_code is None and time.monotonic() < until:
        time.sleep(0.5)
        job = job_named(client, job.id)
    if job.exit_code is None:
        print(f"{job.id} is still {job.state}; check again with `raydisc status {job.id}`")
        return FAILED
    print(f"{job.id}: {job.state}; submitting the same file again continues its run")
    return DONE


class _Log:
    """The log of a job: its progress goes to standard error, and the output after it is kept as the result."""

    def __init__(self) -> None:
        self._result: list[str] | None = None
        self._rest = ""

    def __call__(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if self._result is not None:
                self._result.append(line)
            elif line == RESULT:
                self._result = []
            else:
                print(line, file=sys.stderr, flush=True)

    @property
    def result(self) -> str:
        """The output of the job after its progress; empty if it ended before."""
        return "".join(f"{line}\n" for line in self._result or [])


def _followed(client: JobSubmissionClient, job_id: str, write: Any, address: str | None) -> int:
    """Follow a job to its end and return its exit code; after an interruption here the job goes on."""
    try:
        job = follow(client, job_id, write)
    except (KeyboardInterrupt, ConnectionError) as error:
        reason = str(error) or "no longer waiting"
        print(f"raydisc: {reason}; the job goes on", file=sys.stderr)
        _hint(job_id, address)
        return STOPPED
    if job.exit_code != DONE:
        again = "; submitting the same file again continues its run" if job.exit_code == STOPPED else ""
        print(f"raydisc: {job.id}: {job.state} ({job.message}){again}", file=sys.stderr)
    assert job.exit_code is not None
    return job.exit_code


def _hint(job_id: str, address: str | None) -> None:
    at = f" --address {shlex.quote(address)}" if address else ""
    print(f"follow it: raydisc logs {job_id} --follow{at}", file=sys.stderr)
    print(f"interrupt it: raydisc stop {job_id}{at}", file=sys.stderr)


def _as_json(job: Job, client: JobSubmissionClient) -> dict[str, Any]:
    """Return the JSON object of a job."""
    fields = job.as_dict()
    return {"job": fields.pop("id"), "address": client.get_address(), **fields}


def _cell(value: object) -> str:
    return "" if value is None else str(value)
