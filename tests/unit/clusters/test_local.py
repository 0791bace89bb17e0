"""Refusals of `clusters/local.py` before it starts anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "clusters" / "local.py"


def test_a_python_that_ray_cannot_start_the_workers_of_jobs_with_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "my environment" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    done = subprocess.run([python, SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"the Python at '{python}'" in done.stderr
    assert "use an environment in a folder without spaces" in done.stderr


def test_a_folder_for_temporary_files_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="job submission needs ray[default]")
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--port", "0"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"RAY_TMPDIR is '{tmp_path / 'none'}', which is not a folder; name one, or unset it\n"
