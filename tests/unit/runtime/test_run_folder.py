"""Claiming a run's folder before anything is computed."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from raydisc.errors import InputError
from raydisc.experiment import Experiment, ReviewsConfig, StudentConfig, TaskConfig, TeacherConfig
from raydisc.runtime.folder import claim_folder

Usage = namedtuple("Usage", "total used free")


def experiment(**changes: object) -> Experiment:
    settings = {
        "name": "one",
        "task": TaskConfig(reviews=ReviewsConfig()),
        "teacher": TeacherConfig(model="some-teacher"),
        "student": StudentConfig(scale=[0.1]),
    }
    return Experiment(**(settings | changes))


def test_the_same_experiment_may_claim_its_folder_again(tmp_path: Path) -> None:
    first = claim_folder(tmp_path, experiment())
    assert claim_folder(tmp_path, experiment()) == first == tmp_path / "one"
    assert "some-teacher" in (first / "experiment.yaml").read_text()


def test_another_experiment_of_that_name_is_refused(tmp_path: Path) -> None:
    claim_folder(tmp_path, experiment())
    with pytest.raises(InputError, match="another experiment"):
        claim_folder(tmp_path, experiment(seeds=[1]))
    assert "seeds" in (tmp_path / "one" / "experiment.yaml").read_text()


def test_a_full_storage_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 2**20))
    with pytest.raises(InputError, match="storage: 'runs' has 1 MiB left"):
        claim_folder(tmp_path, experiment())


def test_a_storage_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        claim_folder(tmp_path / "file", experiment())
