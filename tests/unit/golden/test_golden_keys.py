"""Every stage key of four experiments, as recorded in ``expected/keys.json`` (see ``golden.py``).

A key names a stage's artifact: where one differs, the stages that storages hold are computed again. That is right where
their results changed (then raise the request's ``version``), and a fault in everything else. ``expected/contents.json``
says what went into one key of each kind, so that a difference shows its cause.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import golden
import pytest
from keys import keys_of_trials, requests_of_trials

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.models.precision import Arithmetic
from raydisc.tasks.reviews import word_tokenizer

HERE = Path(__file__).parent
QUICKSTART = HERE.parents[2] / "experiments" / "quickstart.yaml"
FILES = ("tokens", "language", "two_assistants")
ARITHMETIC = Arithmetic(threads=1)
BY_SEVERAL = Arithmetic(threads=None, precision="bfloat16", layout="data 2", teacher_layout="shard 4")
ANEW = "A stage key has changed, so that stored stages would be computed again."


def write_files(folder: Path) -> None:
    """The rows and the tokenizer of the experiments in files."""
    word_tokenizer().save_pretrained(folder / "tokenizer")
    places, tags = ["good", "Paris", "bad"], ["O", "B-LOC", "O"]
    for split, rows in (("train", 12), ("validation", 6)):
        tagged = [{"words": places[: 1 + row % 3], "tags": tags[: 1 + row % 3]} for row in range(rows)]
        texts = [{"text": f"the {places[row % 3]} film of row {row}"} for row in range(5 * rows)]
        for name, lines in (("tokens", tagged), ("language", texts)):
            written = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"{name}_{split}.jsonl").write_text(written)


def experiments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Experiment]:
    """All experiments, those in files written to a folder."""
    write_files(folder)
    for name in FILES:
        shutil.copy(HERE / "experiments" / f"{name}.yaml", folder)
    monkeypatch.chdir(folder)
    found = {name: load_experiment(f"{name}.yaml").with_absolute_paths() for name in FILES}
    return {"quickstart": load_experiment(QUICKSTART)} | found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Experiment]:
    return experiments(tmp_path, monkeypatch)


def test_what_goes_into_a_key(here: dict[str, Experiment]) -> None:
    found: dict[str, Any] = {}
    for name, experiment in here.items():
        for _, requests in requests_of_trials(experiment, ARITHMETIC):
            for request in requests:
                content = {"version": request.version, "settings": request.settings()}
                found.setdefault(name, {}).setdefault(request.kind, content)
    golden.compare("contents", found, ANEW)


def test_every_stage_of_every_trial_has_its_recorded_key(here: dict[str, Experiment]) -> None:
    found = {name: keys_of_trials(experiment, ARITHMETIC) for name, experiment in here.items()}
    golden.compare("keys", found, ANEW)


def test_stages_of_several_workers_in_bfloat16_have_their_recorded_keys(here: dict[str, Experiment]) -> None:
    found = keys_of_trials(here["two_assistants"], BY_SEVERAL)
    golden.compare("keys_of_several_workers", found, ANEW)


def test_keys_do_not_depend_on_where_files_lie(
    here: dict[str, Experiment], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = experiments(tmp_path_factory.mktemp("elsewhere"), monkeypatch)
    for name in FILES:
        assert there[name] != here[name] or name == "two_assistants"  # its task is made, not read
        assert keys_of_trials(there[name], ARITHMETIC) == keys_of_trials(here[name], ARITHMETIC)
