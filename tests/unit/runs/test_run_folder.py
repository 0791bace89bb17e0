"""Claiming a run's folder before anything is computed."""

import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from raydisc.config.experiment import Experiment, ReviewsConfig, StudentConfig, TaskConfig, TeacherConfig
from raydisc.errors import InputError
from raydisc.runs.folder import claimed_folder
from raydisc.storage.folder import Storage
from raydisc.storage.mirrored import MirroredStorage
from raydisc.storage.remote import Remote

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
    with claimed_folder(Storage(storage), asked) as run:
        return run.folder


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
    with claimed_folder(Storage(tmp_path), experiment()), pytest.raises(InputError, match="'one' is running"):
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


@pytest.mark.skipif(os.getuid() != 0, reason="mounting is for root")
def test_a_storage_that_is_read_only_is_refused(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", tmp_path]).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(InputError, match="storage: 'runs' cannot be written .Read-only file system"):
            claim(tmp_path, experiment())
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_file_where_the_artifacts_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        claim(tmp_path, experiment())


def test_behind_an_address_a_run_is_refused_on_every_machine(tmp_path: Path) -> None:
    address = (tmp_path / "behind").as_uri()
    one, two = (MirroredStorage(tmp_path / name, Remote(address)) for name in ("one", "two"))
    with claimed_folder(one, experiment()), pytest.raises(InputError, match="'one' is running"):
        with claimed_folder(two, experiment()):
            pass
    with pytest.raises(InputError, match="another experiment"), claimed_folder(two, experiment(seeds=[1])):
        pass
    with claimed_folder(two, experiment()) as run:
        assert "some-teacher" in (tmp_path / "behind" / "one" / "experiment.yaml").read_text()
        assert run.folder == tmp_path / "two" / "one"
