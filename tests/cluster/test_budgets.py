"""Runs that stop at their budget, say what would be next, and go on when they are given more."""

import pytest
from desk import Desk

from raydisc.report.ledger import Ledger

pytestmark = pytest.mark.cluster

TWO_TRIALS = ("--set", "schedules=[kd, {takd: {path: [0.5]}}]")


def stages(desk: Desk) -> list[dict[str, object]]:
    return Ledger(desk.folder / "runs" / "ledger").rows("stages", latest=False)


def states(desk: Desk) -> dict[str, str]:
    return {row["schedule"]: row["state"] for row in Ledger(desk.folder / "runs" / "ledger").rows("trials")}


def computed(desk: Desk) -> list[object]:
    return [row["key"] for row in stages(desk) if row["state"] == "finished"]


@pytest.mark.slow
def test_a_run_begins_as_many_trials_as_it_may_and_goes_on_with_more(desk: Desk) -> None:
    said = desk.run("run", "tiny.yaml", *TWO_TRIALS, "--set", "budget.trials=1", code=3)
    assert "the budget is spent; next would be: " in said
    following = said.split("next would be: ")[1].split("\n")[0].split(", ")
    assert "test-of-kd-to-0.25-seed-0" in following
    assert "takd-via-0.5-to-0.25-seed-0" in following
    assert not {"prepare", "kd-to-0.25-seed-0"} & set(following)
    assert states(desk) == {"kd": "finished"}
    assert "stopped: budget" in desk.run("ls")
    before = computed(desk)
    desk.run("resume", "tiny", "--set", "budget.trials=null")
    after = computed(desk)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    assert states(desk) == {"kd": "finished", "takd": "finished"}


@pytest.mark.slow
def test_hours_that_are_spent_end_a_stage_at_its_checkpoint(desk: Desk) -> None:
    """The teacher would take half an hour: it is asked to stop amid its training."""
    long = ("--set", "teacher.finetune.epochs=4000", "--set", "schedules=[kd]")
    said = desk.run("run", "tiny.yaml", *long, "--set", f"budget.device_hours={4 / 3600}", code=3)
    assert "next would be: prepare, " in said
    [stopped] = [row for row in stages(desk) if row["state"] == "stopped"]
    assert stopped["kind"] == "finetune"
    assert 2 < stopped["device_seconds"] < 30
    [folder] = (desk.folder / "runs" / "artifacts").glob("*.partial")
    assert (folder / "checkpoint.safetensors").is_file()
    again = desk.run("resume", "tiny", code=3)
    assert "next would be: prepare, " in again, "what was spent before still counts"
    assert len(stages(desk)) == 2
    said = desk.run("resume", "tiny", "--set", f"budget.device_hours={8 / 3600}", code=3)
    steps = [int(text.split("stopped at step ")[1].split()[0]) for text in said.splitlines() if "stopped at" in text]
    first = int(str(stopped["message"]).split("stopped at step ")[1].split()[0])
    assert steps[0] > first
