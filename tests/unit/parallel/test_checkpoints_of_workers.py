"""Sharded checkpoints: any number of workers goes on from those of any other."""

import json
import shutil

import pytest
from lessons import trained
from resuming import interrupted, resumed
from workers import run_workers

from raydisc.parallel.mesh import Layout
from raydisc.parallel.rank import ALONE
from raydisc.testing.tolerance import assert_all_near, seen

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def straight():
    return trained(ALONE, "bert", "adamw", steps=6)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The checkpoint that two workers with a part of the weights each have left after four of six steps."""
    folder = tmp_path_factory.mktemp("sharded")
    run_workers(Layout(1, 2), interrupted, folder / "meet", folder / "partial", 4)
    return folder / "partial"


def check(found, straight, before=4):
    losses, weights = found
    assert losses == pytest.approx(straight[0][before:], rel=1e-4)
    assert_all_near(seen(weights), seen(straight[1]), 1e-4)


def test_a_sharded_checkpoint_is_shards_and_json(sharded):
    assert json.loads((sharded / "checkpoint.json").read_text())["step"] == 4
    assert sorted(path.name for path in sharded.iterdir()) == ["checkpoint.json", "shards-4"]
    assert {path.suffix for path in (sharded / "shards-4").iterdir()} == {".safetensors"}


@pytest.mark.parametrize("layout", [Layout(1, 1), Layout(1, 2), Layout(2, 1), Layout(1, 4)], ids=str)
def test_others_go_on_from_a_sharded_checkpoint(sharded, straight, tmp_path, layout):
    folder = shutil.copytree(sharded, tmp_path / "partial")
    workers = [resumed(ALONE, folder)] if layout.workers == 1 else run_workers(layout, resumed, tmp_path / "m", folder)
    for found in workers:
        check(found, straight)


def test_shards_go_on_from_what_one_worker_left_that_went_on_from_shards(sharded, straight, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "partial")
    interrupted(ALONE, folder, 5)
    for found in run_workers(Layout(1, 2), resumed, tmp_path / "meet", folder):
        check(found, straight, before=5)


def test_shards_begin_anew_where_only_some_rows_of_the_embedding_were_trained(straight, tmp_path):
    interrupted(ALONE, tmp_path / "partial", 4)
    for found in run_workers(Layout(1, 2), resumed, tmp_path / "meet", tmp_path / "partial"):
        check(found, straight, before=0)
