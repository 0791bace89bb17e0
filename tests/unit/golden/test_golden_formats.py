"""The formats that scripts rely on: ledger columns, fields of ``--json``, exit codes, words of the experiment file.

Recorded in ``expected/`` (see ``golden.py``). What is added breaks no script; what is renamed, removed or of another
type does.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import golden
import pytest
from ledger_world import World
from shapes import shape_of
from words import settings

from raydisc.cli.main import main
from raydisc.cluster.client import Job
from raydisc.errors import InputError, StorageError
from raydisc.exit_codes import BAD_INPUT, DONE, FAILED, STOPPED, exit_code_of, exit_code_of_run
from raydisc.report.schema import IDENTITY, REQUIRED, SCHEMAS

SCRIPTS = "What scripts of users read has changed."

PLANNED = """
task: {reviews: {train: 60, validation: 20, test: 20, clauses: 1}, max_length: 32}
teacher:
  architecture: {model_type: bert, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 4,
    intermediate_size: 20, max_position_embeddings: 32}
  finetune: {epochs: 1, batch_size: 16}
grid: {scales: [0.8, 0.5, 0.4]}
student: {scale: 0.25}
schedules: [kd, maxidisc, minidisc]
"""

RUN_FILE = {
    "task": "toy", "state": "finished", "trials": 6, "wall_seconds": 12.5, "when": "2026-01-01T00:00:00.000000+00:00",
    "host": "machine", "pid": 1,
}  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder's ``runs``: one run of everything that a ledger can hold, with a folder of its own."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    world = World(folder)
    world.base()
    world.fill()
    world.metric("teacher", "finetune", "validation", 0.95)
    world.stage("test-teacher", "evaluate", ["data", "teacher"])
    world.metric("test-teacher", "evaluate", "test", 0.9)
    kept = {"kept": "memory", "kept_bytes": 1024, "kept_dtype": "float16", "kept_error": 1e-3}
    world.stage("outputs-of-assistant", "teacher_outputs", ["via-0.5-s0"], **kept)
    world.trial("more", "kd", world.stage("student", "distil", ["outputs-of-assistant"]), 0.5, stages=["student"])
    world.trial("broken", "kd", None, None, state="failed", message="the loss is not finite at step 3", seed=1)
    (folder / "r").mkdir()
    (folder / "r" / "run.json").write_text(json.dumps(RUN_FILE))
    return folder


def test_ledger_columns() -> None:
    found = {
        table: {
            "columns": {column.name: str(column.type) for column in schema},
            "identity": IDENTITY[table],
            "required": REQUIRED[table],
        }
        for table, schema in SCHEMAS.items()
    }
    golden.compare("ledger", found, "Ledgers that are there could not be read with those of this version.")


def test_words_of_an_experiment_file() -> None:
    golden.compare("settings", settings(), "Experiment files that are there could mean something else, or be refused.")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("storage")
def test_json_of_what_a_ledger_tells(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/artifacts/unused").mkdir(parents=True)
    found = {
        "show": shape_of(printed(capsys, "show", "r", "--json")),
        "compare": shape_of(printed(capsys, "compare", "r", "--json")),
        "ls": shape_of(printed(capsys, "ls", "--json")),
        "gc": shape_of(printed(capsys, "gc", "--json")),
    }
    golden.compare("json_of_ledgers", found, SCRIPTS)


@pytest.mark.usefixtures("storage")
def test_columns_of_comparisons_as_csv() -> None:
    assert main(["compare", "r", "--csv", "rows.csv"]) == 0
    golden.compare("csv", Path("rows.csv").read_text().splitlines()[0].split(","), SCRIPTS)


def test_json_of_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(PLANNED)
    plan = printed(capsys, "plan", "tiny.yaml", "--json", "--gpus", "2", "--gpu-memory", "80GiB")
    golden.compare("json_of_plans", shape_of(plan), SCRIPTS)


def test_fields_of_jobs() -> None:
    golden.compare("jobs", [field.name for field in dataclasses.fields(Job)], SCRIPTS)


def test_exit_codes() -> None:
    assert (DONE, FAILED, BAD_INPUT, STOPPED) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("x"), 2), (StorageError("the storage cannot be reached"), 1), (KeyboardInterrupt(), 3)],
)
def test_the_exit_code_of_what_ends_a_command(error: BaseException, code: int) -> None:
    def act() -> int:
        raise error

    assert exit_code_of(act) == code


@pytest.mark.parametrize(
    ("failures", "following", "code"),
    [((), (), 0), (("kd failed",), (), 1), ((), ("kd",), 3), (("kd failed",), ("minidisc",), 3)],
)
def test_the_exit_code_of_a_run(failures: tuple[str, ...], following: tuple[str, ...], code: int) -> None:
    assert exit_code_of_run(failures, following, "go on") == code
