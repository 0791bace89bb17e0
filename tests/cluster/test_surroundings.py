"""A run in surroundings that users have and developers seldom do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from desk import make_desk

pytestmark = pytest.mark.cluster


def test_a_run_needs_no_home_and_obeys_the_umask_in_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = make_desk(tmp_path / "my desk").folder
    done = subprocess.run(
        [sys.executable, "-m", "raydisc", "run", "tiny.yaml", "--set", "schedules=[kd]"],
        cwd=folder, env=os.environ | {"HOME": "/dev/null/home"}, umask=0o077, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("[")] == []
    assert (folder / "runs/tiny/students/kd-to-0.25-seed-0/model.safetensors").is_file()
    written = list((folder / "runs").rglob("*"))
    assert len(written) > 20
    assert [path for path in written if path.stat().st_mode & 0o077] == []
