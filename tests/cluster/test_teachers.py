"""A run with several teachers, from its command to its tables."""

import json

import pytest
from desk import Desk

from raydisc.report.ledger import Ledger

pytestmark = pytest.mark.cluster


def test_every_schedule_is_run_and_judged_by_every_teacher(desk: Desk) -> None:
    path = "--set", "schedules=[kd, {takd: {path: [0.5]}}]"
    printed = desk.run("run", "tiny.yaml", *path, "--set", "teacher.seeds=[3, 5]", "--set", "controls=false")
    assert "tiny: accuracy on reviews, 2 teachers, seed 0" in printed
    ledger = Ledger(desk.folder / "runs" / "ledger")
    trials = {row["trial"]: row for row in ledger.rows("trials")}
    assert {name: row["teacher_seed"] for name, row in trials.items()} == {
        f"{name}-to-0.25-teacher-{teacher}-seed-0": teacher for teacher in (3, 5) for name in ("kd", "takd-via-0.5")
    }
    assert all(row["state"] == "finished" and row["test"] for row in trials.values())
    stages = ledger.rows("stages")
    # Each teacher is trained and tested once, and all of them are trained on one tokenised task.
    kinds = [row["kind"] for row in stages]
    assert (kinds.count("tokenise"), kinds.count("finetune"), kinds.count("evaluate")) == (1, 2, 2 + 4)
    assert {row["seed"] for row in stages if row["kind"] == "finetune"} == {3, 5}
    rows = json.loads(desk.ask("compare", "tiny", "--json"))
    assert [(row["schedule"], row["teacher_seed"]) for row in rows] == [
        ("kd", 3), ("kd", 5), ("takd", 3), ("takd", 5),
    ]  # fmt: skip
    assert sorted(path.name for path in (desk.folder / "runs" / "tiny" / "students").iterdir()) == sorted(trials)
