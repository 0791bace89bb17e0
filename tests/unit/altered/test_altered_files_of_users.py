"""Experiment files, data and the notes of runs and students: each is read, or refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from altering import KEY, altered, damaged, few, one_sentence
from hypothesis import example, given
from hypothesis import strategies as st

from raydisc.config.experiment import load_experiment
from raydisc.config.sections import TaskConfig
from raydisc.errors import InputError
from raydisc.models.student_folder import StudentCard, read_card
from raydisc.report.runs import RUN_FILE, RunState, list_runs
from raydisc.tasks.base import load_task
from raydisc.tasks.files import read_texts

EXPERIMENT = {
    "task": {"reviews": {"train": 100}},
    "teacher": {"architecture": {"model_type": "bert"}, "finetune": {"epochs": 1.0}},
    "grid": {"scales": [0.8, 0.5]},
    "student": {"scale": 0.25},
    "schedules": ["kd", {"minidisc": {"lam": 0.2}}, {"takd": {"path": [0.8, 0.5]}}],
    "once_for_all": {"sandwich": {"middle": 1}},
    "distillation": {"losses": {"logit_mse": 1.0}, "layer_mapping": [[0, 1]]},
    "seeds": [0, 1],
    "name": "mine",
    "storage": "runs",
}


@few
@given(
    altered(EXPERIMENT).map(lambda data: yaml.safe_dump(data).encode()) | damaged(yaml.safe_dump(EXPERIMENT).encode())
)
@example(yaml.safe_dump(EXPERIMENT).encode())
def test_experiment_files(storage: Path, content: bytes) -> None:
    file = storage / "mine.yaml"
    file.write_bytes(content)
    with one_sentence(InputError):
        experiment = load_experiment(file)
        assert load_experiment(file).fingerprint() == experiment.fingerprint()
        assert (storage / experiment.name).parent == storage
        experiment.to_yaml().encode()


ROWS = [{"text": f"row {number}", "label": number % 2} for number in range(6)]
METRICS = ["accuracy", "f1", "pearson_spearman", "token_accuracy", "span_f1", "token_likelihood"]
LABEL = st.sampled_from(
    ["O", "B-x", "", "a\n", "\x1b[31m", 0, 1, 2, -1, 2**63, 1e30, 0.5, True, None, ["O"], [], {"x": 1}]
)


def task_file(suffix: str) -> bytes:
    """A file of `ROWS`."""
    content = pa.BufferOutputStream()
    table = pa.Table.from_pylist(ROWS)
    if suffix == ".parquet":
        pq.write_table(table, content)
    elif suffix == ".csv":
        pa.csv.write_csv(table, content)
    else:
        return as_lines(ROWS)
    return content.getvalue().to_pybytes()


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@few
@given(data=st.data(), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]), metric=st.sampled_from(METRICS))
def test_files_of_a_task(storage: Path, data: st.DataObject, suffix: str, metric: str) -> None:
    file = storage / f"rows{suffix}"
    file.write_bytes(data.draw(st.binary(max_size=64) | damaged(task_file(suffix)) | st.just(task_file(suffix))))
    read_task(file, metric)


@few
@given(st.sampled_from(["row", ["two", "words"]]), st.lists(LABEL, min_size=1, max_size=3), st.sampled_from(METRICS))
@example("row", [2**63], "accuracy")
@example("row", [1e30, 1.0], "accuracy")
@example("row", ["a\n", "\x1b[31m"], "span_f1")
def test_labels_of_a_task(storage: Path, text: Any, labels: list[Any], metric: str) -> None:
    file = storage / "rows.jsonl"
    file.write_bytes(as_lines([{"text": text, "label": label} for label in labels]))
    read_task(file, metric)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"text,l\xff\x1b[31mbel\nrow,1\n"),
        ("rows.csv", b"text,label\n\xff\x0f,1,\x1b[31m\n"),
        ("rows.jsonl", b'{"text": "\xff", "label": 1}\n'),
        ("rows.jsonl", b'{"l\xed\xa0\x80": "row"}\n'),
        ("rows.jsonl", b'{"%s": 1, "other": 2}\n' % (b"name" * 1000)),
        ("rows.parquet", b"PAR1" + bytes(range(64)) + b"PAR1"),
    ],
)
def test_files_that_cannot_be_a_task(storage: Path, name: str, content: bytes) -> None:
    (storage / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}' (cannot be read as|has no column)"):
        read_texts(storage / name, ["text"])
    read_task(storage / name, "accuracy")


def read_task(file: Path, metric: str) -> None:
    """Read a file as a task's splits and as rows to predict; either may be refused."""
    task = TaskConfig(train=str(file), validation=str(file), test=str(file), text=["text"], metric=metric)
    with one_sentence(InputError):
        assert load_task(task).splits["train"].num_rows > 0
    with one_sentence(InputError):
        assert read_texts(file, ["text"]).column_names == ["text_0"]


STATE = {"task": "toy", "state": "running", "trials": 3, "when": "2026-01-01", "host": "here", "pid": 1}
CARD = {
    "key": KEY, "schedule": "minidisc", "path": [0.5], "scale": 0.25, "kind": "classification", "classes": ["a", "b"],
    "text": ["text"], "max_length": 32, "metric": "accuracy", "validation_metric": 0.5, "plain": False,
}  # fmt: skip


@few
@given(altered(STATE).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(STATE).encode()))
@example(json.dumps(STATE | {"pid": 10**30}).encode())
def test_notes_of_runs(storage: Path, content: bytes) -> None:
    RunState("toy", "finished", 1).write(storage / "mine")
    (storage / "mine" / RUN_FILE).write_bytes(content)
    with one_sentence(InputError):
        assert [run["name"] for run in list_runs(storage)] == ["mine"]


@few
@given(altered(CARD).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(CARD).encode()))
@example(b"[" * 100_000)
def test_cards_of_students(storage: Path, content: bytes) -> None:
    (storage / "raydisc.json").write_bytes(content)
    with one_sentence(InputError):
        card = read_card(storage)
        assert isinstance(card, StudentCard)
        assert isinstance(card.path, tuple)
