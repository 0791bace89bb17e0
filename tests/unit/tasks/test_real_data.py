"""The real tasks of the assets folder, read in place."""

import os
from pathlib import Path

import pytest

from raydisc.config.sections import TaskConfig
from raydisc.tasks.base import load_task

ASSETS = os.environ.get("RAYDISC_TEST_ASSETS")
pytestmark = pytest.mark.skipif(not ASSETS, reason="RAYDISC_TEST_ASSETS is not set: no real data")

TASKS = {
    "sst2": (["sentence"], "accuracy", None, (6920, 872, 1821)),
    "mrpc": (["sentence1", "sentence2"], "accuracy_f1", None, (3576, 500, 1725)),
    "sick_nli": (
        ["premise", "hypothesis"],
        "accuracy",
        ["entailment", "neutral", "contradiction"],
        (4500, 500, 4927),
    ),
    "sick_relatedness": (["sentence1", "sentence2"], "pearson_spearman", None, (4500, 500, 4927)),
}

SHARED = {
    "sst2": ["task: 2 of 1,821 test rows"],
    "sick_nli": ["task: 3 of 500 validation rows", "task: 49 of 4,927 test rows"],
    "sick_relatedness": ["task: 3 of 500 validation rows", "task: 49 of 4,927 test rows"],
}
"""Rows of other splits whose text is in train too."""


def load(name: str, **changes):
    text, metric, classes, _ = TASKS[name]
    folder = Path(str(ASSETS)) / "data" / name
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation", "test")}
    return load_task(TaskConfig(**{**files, "text": text, "metric": metric, "classes": classes, **changes}))


@pytest.mark.parametrize("name", TASKS)
def test_rows_and_classes(name):
    task = load(name)
    assert task.name == name
    assert tuple(task.splits[split].num_rows for split in ("train", "validation", "test")) == TASKS[name][3]
    assert task.kind.name == ("regression" if name == "sick_relatedness" else "classification")
    assert task.classes == {"sst2": ("0", "1"), "mrpc": ("0", "1"), "sick_relatedness": ()}.get(
        name, ("entailment", "neutral", "contradiction")
    )
    assert [notice.split(" have")[0] for notice in task.notices] == SHARED.get(name, [])


def test_without_its_test_file():
    task = load("mrpc", test=None)
    assert task.splits["test"].num_rows == 500
    assert 0.08 < task.splits["validation"].num_rows / 3576 < 0.12


def test_train_rows():
    assert load("sst2", train_rows=512).splits["train"].num_rows == 512
