"""Claiming a run's folder before anything is computed."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from raydisc.errors import InputError
from raydisc.experiment import Experiment, ReviewsConfig, StudentConfig, TaskConfig, TeacherConfig
from raydisc.runtime.folder import claimed_folder, storage_folder

Usage = namedtuple("Usage", "total used free")


def experiment(**changes: object) -> Experiment:
    settings = {
        "name": "one",
        "task": TaskConfig(reviews=ReviewsConfig()),
        "teacher": TeacherConfig(model="some-teacher"),
        "student": StudentConfig(scale=[0.1]),
    }
    return Experiment(**(settings | changes))


def claim(storage: Path, asked: Experiment) -> Path:
    with claimed_folder(storage, asked) as folder:
        return folder


def test_the_same_experiment_may_claim_its_folder_again(tmp_path: Path) -> None:
    first = claim(tmp_path, experiment())
    assert claim(tmp_path, experiment()) == first == tmp_path / "one"
    assert "some-teacher" in (first / "experiment.yaml").read_text()


def test_another_experiment_of_that_name_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, experiment())
    with pytest.raises(InputError, match="another experiment"):
        claim(tmp_path, experiment(seeds=[1]))
    assert "seeds" in (tmp_path / "one" / "experiment.yaml").read_text()


def test_a_run_that_is_running_is_refused(tmp_path: Path) -> None:
    with claimed_folder(tmp_path, experiment()), pytest.raises(InputError, match="'one' is running"):
        claim(tmp_path, experiment())
    claim(tmp_path, experiment(name="two"))


def test_a_full_storage_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 2**20))
    with pytest.raises(InputError, match="storage: 'runs' has 1 MiB left"):
        claim(tmp_path, experiment())


def test_a_storage_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        claim(tmp_path / "file", experiment())


def test_a_file_where_the_artifacts_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        claim(tmp_path, experiment())


def test_an_address_is_no_storage_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="s3://bucket/runs"):
        storage_folder("s3://bucket/runs")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage_folder("~/runs") == tmp_path / "runs"
