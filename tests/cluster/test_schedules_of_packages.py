"""A schedule of another package, found by its entry point: planned, run by trials on Ray, compared and drawn."""

import base64
import os
import re
from pathlib import Path

import pytest
from desk import Desk

pytestmark = pytest.mark.cluster

SCHEDULE = Path(__file__).parents[1] / "unit" / "schedules" / "halfway.py"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of packages that has the schedule, as pip would leave it."""
    packages = tmp_path / "packages"
    about = packages / "halfway-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / "halfway.py").write_text(SCHEDULE.read_text())
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: halfway\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[raydisc.schedules]\nhalfway = halfway:Halfway\n")
    paths = [str(packages), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def test_a_schedule_of_another_package(installed: None, desk: Desk) -> None:
    only = ("--set", "schedules=[kd, halfway]")
    plan = desk.json("plan", "tiny.yaml", *only, "--json")
    [planned] = [row for row in plan["schedules"] if row["schedule"] == "halfway"]
    assert planned["assistants"] == [[0.5]]

    printed = desk.run("run", "tiny.yaml", *only)
    assert "halfway" in printed
    rows = {row["schedule"]: row for row in desk.json("compare", "tiny", "--json")}
    assert set(rows) == {"kd", "halfway"}
    assert rows["halfway"]["path"] == [0.5]
    assert rows["halfway"]["search_flops"] == pytest.approx(planned["flops"]["expected"], rel=0.05)
    report = (desk.folder / "runs" / "tiny" / "report.html").read_text()
    assert "halfway" in report
    figures = [
        base64.b64decode(found).decode() for found in re.findall(r"data:image/svg\+xml;base64,([^'\"]+)", report)
    ]
    assert any("#117733" in figure for figure in figures), "its own mark"
    assert (desk.folder / "runs/tiny/students/halfway-via-0.5-to-0.25-seed-0/model.safetensors").is_file()
