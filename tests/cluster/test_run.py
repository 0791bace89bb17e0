"""A whole run from the command line: what it prints, what it keeps, what it does not do twice."""

import contextlib
import json
import os
import pty
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from desk import Desk, student_hashes
from transformers import AutoTokenizer

from raydisc import load_student
from raydisc.config.experiment import load_experiment
from raydisc.report.ledger import Ledger
from raydisc.tasks.base import load_task
from raydisc.testing.tolerance import assert_near

pytestmark = pytest.mark.cluster

COMPARISON_FIELDS = {
    "run", "task", "schedule", "path", "student_scale", "student_parameters", "lam", "initialisation", "seed",
    "validation_metric", "test_metric", "test_se", "search_flops", "schedule_flops", "device_seconds",
    "wall_seconds", "cost_relative_to_oracle", "regret", "selected", "teacher_seed", "label", "on_front",
}  # fmt: skip
CANDIDATE_FIELDS = {"scale", "measured_scale", "parameters", "flops", "metric", "tradeoff", "place"}


Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def compared(finished: Desk) -> Rows:
    """Return what ``raydisc compare --json`` prints for the finished run."""
    return list(json.loads(finished.ask("compare", "tiny", "--json")))


@pytest.fixture(scope="module")
def shown(finished: Desk) -> dict[str, Any]:
    """Return what ``raydisc show --json`` prints for the finished run."""
    return dict(json.loads(finished.ask("show", "tiny", "--json")))


def ledger_of(desk: Desk) -> Ledger:
    return Ledger(desk.folder / "runs" / "ledger")


def test_run_ends_with_the_comparison_and_where_things_lie(finished: Desk) -> None:
    printed = (finished.folder / "printed.txt").read_text()
    for word in ("kd", "maxidisc", "minidisc", "kd_equal_compute", "kd_from_supernet", "report.html", "ledger"):
        assert word in printed
    assert (finished.folder / "runs/tiny/report.html").stat().st_size > 10_000


def test_compare_json_has_a_row_for_each_schedule_and_path(compared: Rows) -> None:
    assert all(set(row) == COMPARISON_FIELDS for row in compared)
    asked = sorted((row["schedule"], tuple(row["path"])) for row in compared if row["schedule"] != "minidisc")
    assert asked == [
        ("kd", ()), ("kd_equal_compute", ()), ("kd_from_supernet", ()), ("maxidisc", (0.5,)), ("maxidisc", (0.8,)),
    ]  # fmt: skip
    [chosen] = [row for row in compared if row["schedule"] == "minidisc"]
    assert chosen["path"] in ([0.8], [0.5])
    assert all(np.isfinite(row["test_metric"]) and row["test_se"] > 0 for row in compared)


def test_the_chosen_assistant_leads_the_ranking(compared: Rows, shown: dict[str, Any]) -> None:
    candidates = shown["candidates"]
    assert all(set(candidate) >= CANDIDATE_FIELDS for candidate in candidates)
    for candidate in candidates:
        expected = min(max(candidate["metric"], 0), 1) + 0.2 * (1 - candidate["measured_scale"])
        assert candidate["tradeoff"] == pytest.approx(expected)
    assistants = [candidate for candidate in candidates if candidate["scale"] > 0.25]
    first = min(assistants, key=lambda candidate: candidate["place"])
    [minidisc] = [row for row in compared if row["schedule"] == "minidisc"]
    assert minidisc["path"] == [first["scale"]]


def test_outputs_of_the_teacher_and_of_assistants_are_in_memory(shown: dict[str, Any]) -> None:
    stages = [stage for stage in shown["stages"] if stage["kept"]]
    assert {stage["kind"] for stage in stages} == {"teacher_outputs"}
    assert {stage["kept"] for stage in stages} == {"memory"}
    assert {stage["scale"] for stage in stages} == {None, 0.8, 0.5}
    assert all(0 < stage["kept_error"] < 2**-11 and stage["kept_dtype"] == "float16" for stage in stages)
    assert all(stage["kept_bytes"] > 100_000 for stage in stages)


def test_search_cost_is_the_sum_of_the_stages_it_stands_on(finished: Desk, compared: Rows) -> None:
    stages = ledger_of(finished).read("stages").set_index("key")
    trials = ledger_of(finished).rows("trials", run="tiny")
    rows = {(row["schedule"], tuple(row["path"])): row for row in compared}

    def closure(key: str) -> set[str]:
        return {key}.union(*(closure(parent) for parent in stages.loc[key, "inputs"]))

    free = {"tokenise", "finetune", "evaluate"}
    for trial in trials:
        keys = [key for key in closure(trial["student"]) if stages.loc[key, "kind"] not in free]
        row = rows[trial["schedule"], tuple(trial["path"])]
        assert row["search_flops"] == pytest.approx(stages.loc[keys, "flops"].sum())
    paths = [row for row in rows.values() if row["schedule"] == "maxidisc"]
    assert paths[0]["schedule_flops"] < sum(row["search_flops"] for row in paths)
    assert paths[0]["schedule_flops"] > max(row["search_flops"] for row in paths)


def test_the_control_trains_with_the_compute_of_minidisc(compared: Rows) -> None:
    rows = {row["schedule"]: row for row in compared}
    assert rows["kd_equal_compute"]["search_flops"] == pytest.approx(rows["minidisc"]["search_flops"], rel=0.05)
    assert rows["kd_equal_compute"]["search_flops"] > 1.5 * rows["kd"]["search_flops"]


def test_a_stage_is_computed_once(finished: Desk) -> None:
    stages = ledger_of(finished).read("stages", latest=False)
    assert stages["key"].is_unique
    assert (stages["kind"] == "once_for_all").sum() == 1


def test_resume_computes_nothing_that_is_finished(finished: Desk) -> None:
    before, hashes = ledger_of(finished).read("stages", latest=False), student_hashes(finished)
    finished.run("resume", "tiny")
    pd.testing.assert_frame_equal(ledger_of(finished).read("stages", latest=False), before)
    assert student_hashes(finished) == hashes


@pytest.mark.slow
def test_another_lam_trains_no_supernet(finished: Desk) -> None:
    finished.run("run", "tiny.yaml", "--name", "large-lam", "--set", "schedules=[{minidisc: {lam: 5.0}}]",
                 "--set", "controls=false")  # fmt: skip
    kinds = ledger_of(finished).read("stages", latest=False).query("run == 'large-lam'")["kind"]
    assert set(kinds) <= {"teacher_outputs", "distil", "evaluate"}
    [row] = finished.json("compare", "large-lam", "--json")
    assert (row["path"], row["lam"]) == ([0.5], 5.0)


def test_the_student_predicts_what_the_ledger_says(finished: Desk) -> None:
    [trial] = ledger_of(finished).rows("trials", run="tiny", schedule="minidisc")
    predictions, _ = ledger_of(finished).predictions(trial["test"], "test")
    folder = finished.folder / "runs/tiny/students" / trial["trial"]
    student, tokenizer = load_student(folder), AutoTokenizer.from_pretrained(folder)
    experiment = load_experiment(finished.folder / "tiny.yaml")
    texts = load_task(experiment.task).splits["test"].column("text_0").to_pylist()[:20]
    with torch.no_grad():
        logits = student(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    assert_near(logits.numpy(), predictions[:20])
    assert set(student.config.id2label.values()) == {"negative", "mixed", "positive"}


def test_predict_labels_a_file(finished: Desk) -> None:
    (finished.folder / "new.jsonl").write_text(json.dumps({"text": "the food was good"}) + "\n")
    [trial] = ledger_of(finished).rows("trials", run="tiny", schedule="kd")
    finished.ask("predict", f"runs/tiny/students/{trial['trial']}", "new.jsonl", "--output", "labels.csv")
    labels = pd.read_csv(finished.folder / "labels.csv")
    assert labels.loc[0, "label"] in {"negative", "mixed", "positive"}
    assert 1 / 3 <= labels.loc[0, "probability"] <= 1


def test_ls_names_the_run(finished: Desk) -> None:
    assert "tiny" in finished.ask("ls")


def test_a_name_with_another_experiment_is_refused(finished: Desk) -> None:
    said = finished.ask("run", "tiny.yaml", "--set", "distillation.lr=0.5", code=2)
    assert "tiny" in said
    assert "another" in said


@pytest.mark.slow
def test_bits_do_not_depend_on_how_many_trials_run_at_once(finished: Desk, desk: Desk) -> None:
    desk.run("run", "tiny.yaml", "--set", "resources.trials=1")
    assert student_hashes(desk) == student_hashes(finished)
    assert len(student_hashes(desk)) == 6


PYTHON = """
import json, sys
import raydisc
from raydisc.config.experiment import load_experiment

experiment = raydisc.load_experiment("tiny.yaml", ["schedules=[kd]"])
first = raydisc.run(experiment)
second = raydisc.run(experiment)
frame = first.dataframe
print(json.dumps({
    "rows": len(frame), "same": first.comparison == second.comparison, "failures": first.failures,
    "metric": float(frame.loc[0, "test_metric"]), "students": sorted(first.students),
    "classes": raydisc.load_student(first.students[sorted(first.students)[0]]).config.num_labels,
}))
"""


@pytest.mark.slow
def test_a_run_from_python_gives_objects_and_a_table(desk: Desk) -> None:
    done = subprocess.run([sys.executable, "-c", PYTHON], cwd=desk.folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    [row] = desk.json("compare", "tiny", "--json")
    assert said == {
        "rows": 1, "same": True, "failures": [], "metric": row["test_metric"],
        "students": ["kd-to-0.25-seed-0"], "classes": 3,
    }  # fmt: skip


@pytest.mark.slow
def test_on_a_terminal_progress_is_drawn(desk: Desk) -> None:
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "raydisc.cli.main", "run", "tiny.yaml", "--set", "schedules=[{minidisc: {lam: 0.2}}]"],
        cwd=desk.folder,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    drawn = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the process has ended
        while chunk := os.read(master, 65536):
            drawn += chunk
    assert process.wait(60) == 0, drawn[-2000:].decode(errors="replace")
    assert b"\x1b[" in drawn, "no escape sequence: drawn as in a pipe"
    for word in ("once_for_all", "tradeoff", "minidisc"):
        assert word.encode() in drawn


def test_compare_prints_markdown(finished: Desk) -> None:
    lines = finished.ask("compare", "tiny", "--markdown").splitlines()
    assert any(line.startswith("|") and "minidisc" in line for line in lines)
