"""`clusters/slurm.sh` from its first line to its last, on one machine that stands in for Slurm's nodes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from desk import Desk

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
pytest.importorskip("aiohttp", reason="ray start shows a dashboard with ray[default] only")

SCRIPT = Path(__file__).parents[2] / "clusters" / "slurm.sh"

STAND_INS = {
    # A step on a node is a process here; what it was asked and who may read the token is written down.
    "srun": """
        echo "$(stat -c %a "$RAY_AUTH_TOKEN_PATH") $RAY_AUTH_MODE $*" >> "$STEPS"
        while [ "$1" != ray ]; do shift; done
        exec "$@" """,
    "scontrol": "hostname; echo another",
    "id": "echo 1000",  # the tests may run as root
    "python": f'exec {sys.executable} "$@"',
    "ray": f"exec {sys.executable} -c 'import sys; from ray.scripts.scripts import main; sys.exit(main())' \"$@\"",
    "raydisc": f'exec {sys.executable} -m raydisc.cli.main "$@"',
}


def _start(desk: Desk, *words: str) -> "subprocess.Popen[str]":
    binaries = desk.folder / "bin"
    binaries.mkdir()
    for name, body in STAND_INS.items():
        (binaries / name).write_text(f"#!/bin/bash\n{body}\n")
        (binaries / name).chmod(0o755)
    allocation = {"JOB_ID": "4711", "NNODES": "2", "CPUS_PER_TASK": "1", "JOB_NODELIST": "here,another"}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **{f"SLURM_{name}": value for name, value in allocation.items()},
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(desk.folder),
        "STEPS": str(desk.folder / "steps.txt"),
        "COLUMNS": "200",
        "RAY_raylet_start_wait_time_s": "180",  # all nodes start on this one machine
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *words],
        cwd=desk.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _steps(desk: Desk) -> list[str]:
    return (desk.folder / "steps.txt").read_text().splitlines()


def _left(desk: Desk) -> list[object]:
    """Processes with the job's home that do not end soon after it, and the folder of its token."""
    ours = [one for one in psutil.process_iter() if one.pid != os.getpid() and _knows(one, str(desk.folder))]
    return [*psutil.wait_procs(ours, timeout=30)[1], *desk.folder.glob(".raydisc-*")]


def _knows(process: psutil.Process, home: str) -> bool:
    try:
        return process.environ().get("HOME") == home and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_the_experiment_runs_on_all_nodes_and_nothing_is_left(desk: Desk) -> None:
    process = _start(desk, "tiny.yaml", "--set", "schedules=[kd]")
    try:
        printed, _ = process.communicate(timeout=400)
    finally:
        process.terminate()
    assert process.returncode == 0, printed
    assert (desk.folder / "runs/tiny/students").is_dir()
    head, other = _steps(desk)
    assert head.startswith("600 token ")
    assert other.startswith("600 token ")
    assert "--nodelist=another" in other
    assert "--dashboard-host=127.0.0.1" in head
    assert _left(desk) == []


def test_a_job_that_is_told_to_end_takes_its_nodes_along(desk: Desk) -> None:
    process = _start(desk, "tiny.yaml", "--plain")
    assert process.stdout is not None
    printed = ""
    while "prepare" not in printed:  # a trial runs
        line = process.stdout.readline()
        assert line, printed
        printed += line
    process.send_signal(signal.SIGTERM)
    printed += process.communicate(timeout=200)[0]
    assert process.returncode not in (0, 127, 143), printed
    assert _left(desk) == []
