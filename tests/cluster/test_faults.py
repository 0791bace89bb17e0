"""Runs that go wrong: not finite, refused, side by side."""

import pytest
from desk import Desk, student_hashes

from raydisc.report.ledger import Ledger
from raydisc.tasks.reviews import word_tokenizer

pytestmark = pytest.mark.cluster


def stages(desk: Desk) -> Ledger:
    return Ledger(desk.folder / "runs" / "ledger")


def test_a_loss_that_is_not_finite_ends_its_trial_only(desk: Desk) -> None:
    settings = (
        "once_for_all.lr=1.0e+38",
        "grid.scales=[0.5, 0.25]",
        "schedules=[kd, {minidisc: {lam: 0.2}}]",
        "controls=[kd_from_supernet]",
    )
    said = desk.run("run", "tiny.yaml", *(word for setting in settings for word in ("--set", setting)), code=1)
    assert "once_for_all" in said
    assert "step" in said
    trials = {row["schedule"]: row["state"] for row in stages(desk).rows("trials", run="tiny")}
    assert trials["minidisc"] == trials["kd_from_supernet"] == "failed"
    assert trials["kd"] == "finished"
    tested = [row for row in stages(desk).rows("trials", run="tiny") if row["test"]]
    assert [row["schedule"] for row in tested] == ["kd"]


@pytest.mark.slow
def test_two_runs_at_once_share_what_both_need(desk: Desk) -> None:
    first = desk.start("run", "tiny.yaml", "--name", "one", "--set", "schedules=[kd]")
    second = desk.start("run", "tiny.yaml", "--name", "two", "--set", "schedules=[kd]")
    assert [first.wait(300), second.wait(300)] == [0, 0], first.stderr.read() + second.stderr.read()
    assert stages(desk).read("stages", latest=False)["key"].is_unique
    one, two = student_hashes(desk, "one"), student_hashes(desk, "two")
    assert one == two
    assert one


def test_more_than_the_machine_has_is_refused(desk: Desk) -> None:
    said = desk.ask("run", "tiny.yaml", "--set", "resources.cpus=5000", code=2)
    assert "5000" in said


def test_a_storage_that_is_no_folder_is_refused(desk: Desk) -> None:
    (desk.folder / "file").write_text("")
    said = desk.ask("run", "tiny.yaml", "--set", "storage=file", code=2)
    assert "storage" in said


@pytest.mark.slow
def test_a_failed_teacher_is_tried_once_and_told_once(desk: Desk) -> None:
    said = desk.run("run", "tiny.yaml", "--set", "teacher.finetune.lr=1.0e+38", code=1)
    assert said.count("raydisc: ") == 1, said
    assert "finetune" in said
    failed = stages(desk).read("stages", latest=False, state="failed")
    assert list(failed["kind"]) == ["finetune"]


@pytest.mark.slow
def test_a_run_goes_on_from_another_folder(desk: Desk) -> None:
    rows = "".join(f'{{"text": "the food was {word}", "label": "{word}"}}\n' for word in ("good", "bad") * 30)
    for split in ("train", "validation", "test"):
        (desk.folder / f"{split}.jsonl").write_text(rows)
    files = ["train=train.jsonl", "validation=validation.jsonl", "test=test.jsonl", "text=[text]", "metric=accuracy"]
    words = [word for file in files for word in ("--set", f"task.{file}")]
    # the embedded task's words will do for these rows; a tokenizer of files has to be named
    word_tokenizer().save_pretrained(desk.folder / "tokenizer")
    desk.run("run", "tiny.yaml", "--set", "schedules=[kd]", "--set", "teacher.tokenizer=tokenizer", *words)
    elsewhere = Desk(desk.folder / "elsewhere")
    elsewhere.folder.mkdir()
    before = len(stages(desk).read("stages", latest=False))
    elsewhere.run("resume", "tiny", "--storage", str(desk.folder / "runs"))
    assert len(stages(desk).read("stages", latest=False)) == before
