"""The tokens of a run's task, which are there before its jobs are planned."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import tiny_experiment

from raydisc.errors import InputError
from raydisc.models.precision import Arithmetic
from raydisc.report.ledger import Ledger
from raydisc.runs import tokens
from raydisc.runs.tokens import tokens_first
from raydisc.stages.artifact import Artifact
from raydisc.stages.problem import inspect
from raydisc.stages.store import ArtifactStore
from raydisc.storage.folder import Storage

TWO_THREADS = Arithmetic(2)


@pytest.fixture
def tokenise(tmp_path: Path) -> Callable[..., Artifact]:
    def first(told: list[str] | None = None) -> Artifact:
        experiment, storage = tiny_experiment(name="mine"), Storage(tmp_path)
        find = ArtifactStore(storage).find
        notice = [].append if told is None else told.append
        return tokens_first(experiment, inspect(experiment), storage, TWO_THREADS, find, notice)

    return first


def test_a_task_is_tokenised_once_and_stands_in_the_ledger(tokenise: Callable[..., Artifact], tmp_path: Path) -> None:
    told: list[str] = []
    data = tokenise(told)
    assert data["rows"] == {"train": 200, "validation": 60, "test": 60}
    [row] = Ledger(tmp_path / "ledger").rows("stages")
    assert (row["key"], row["kind"], row["run"], row["trial"]) == (data.key, "tokenise", "mine", "prepare")
    assert json.loads(row["settings"])["arithmetic"]["threads"] == 2
    manifest = tmp_path / "artifacts" / data.key / "manifest.json"
    written = manifest.stat().st_mtime_ns
    assert tokenise() == data
    assert manifest.stat().st_mtime_ns == written
    assert told == []


def test_who_waits_for_long_is_told_once(tokenise: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_PATIENCE_S", -1.0)
    told: list[str] = []
    tokenise(told)
    assert told == ["the task is being tokenised"]


def test_a_task_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    experiment = tiny_experiment()
    before = replace(inspect(experiment), task_fingerprint="of other rows")
    with pytest.raises(InputError, match="the data changed while the run was starting; run again"):
        tokens_first(experiment, before, Storage(tmp_path), TWO_THREADS, lambda key: None, lambda told: None)
