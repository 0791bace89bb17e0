"""Checkpoints take the room of one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training import SETTINGS, Killed, batch_at, fetching, killed_at, linear, pull, quiet

from raydisc.training.checkpoint import TrainingState, load, save
from raydisc.training.loop import checkpoint_pause, no_evaluation, train
from raydisc.training.progress import Evaluation, ScoredCandidate


def state_of(step: int) -> TrainingState:
    state = TrainingState(step=step)
    state.put("model.", {"weight": torch.full((3,), float(step))})
    return state


def test_one_is_kept_whatever_was_left_by_processes_that_died_while_they_wrote(tmp_path: Path) -> None:
    for left in ("checkpoint.safetensors.123", "checkpoint.json.123"):
        (tmp_path / left).write_bytes(b"half of one")
    (tmp_path / "shards-7").mkdir()
    (tmp_path / "choice.arrow").write_bytes(b"what a stage keeps beside it")
    for step in (8, 9):
        save(tmp_path, state_of(step))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.safetensors", "choice.arrow"}
    found = load(tmp_path)
    assert found is not None
    assert found.step == 9
    assert found.part("model.")["weight"].tolist() == [9.0] * 3


@pytest.mark.parametrize(("writing_s", "pause_s"), [(0.1, 60), (4, 76), (100, 600)])
def test_checkpoints_that_take_long_are_further_apart_but_not_without_bound(writing_s: float, pause_s: float) -> None:
    assert checkpoint_pause(60, writing_s) == pause_s


def test_a_checkpoint_of_other_code_counts_as_none(tmp_path):
    save_file({"model.a": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", {"state": '{"unheard_of": 1}'})
    assert load(tmp_path) is None


def leave_checkpoint(folder: Path) -> None:
    """That of a run which was killed."""
    model = linear()
    with pytest.raises(Killed):
        train(
            model,
            replace(SETTINGS, checkpoint_folder=folder),
            fetching(batch_at, pull(model)),
            no_evaluation,
            killed_at(4),
        )
    assert load(folder) is not None


def assert_begins_anew(folder: Path) -> None:
    """A run that goes on there ends as one without a checkpoint does."""
    straight, broken = linear(), linear()
    train(straight, SETTINGS, fetching(batch_at, pull(straight)), no_evaluation, quiet)
    train(broken, replace(SETTINGS, checkpoint_folder=folder), fetching(batch_at, pull(broken)), no_evaluation, quiet)
    assert torch.equal(straight.weight, broken.weight)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, None])
def test_an_unreadable_checkpoint_counts_as_none(tmp_path, content):
    leave_checkpoint(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    assert load(tmp_path) is None
    assert not path.exists()
    assert_begins_anew(tmp_path)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    candidates = (ScoredCandidate(0.5, 0.52, 7, 1.0, 0.25, 0.1),)
    evaluations = [Evaluation(1, 0.5, se=0.1), Evaluation(2, 0.25, candidates=candidates)]
    state = TrainingState(step=3, flops=7.5, evaluations=evaluations, best=0.5, since_best=1)
    state.put("model.", {"a.weight": torch.arange(6.0).view(2, 3).t()})
    state.put("random.", {"cpu": torch.get_rng_state()})
    state.put("model.", {"b": torch.tensor([1, 2])})
    assert set(state.tensors) == {"model.b", "random.cpu"}
    save(tmp_path, state)
    found = load(tmp_path)
    assert (found.step, found.flops, found.evaluations, found.best, found.since_best) == (
        3, 7.5, evaluations, 0.5, 1,
    )  # fmt: skip
    assert torch.equal(found.part("model.")["b"], torch.tensor([1, 2]))
    assert torch.equal(found.tensors["random.cpu"], torch.get_rng_state())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    assert load(tmp_path / "nowhere") is None


def test_checkpoints_are_as_rare_as_asked_for(tmp_path):
    model = linear()
    train(
        model,
        replace(SETTINGS, checkpoint_folder=tmp_path, checkpoint_every_s=60.0),
        fetching(batch_at, pull(model)),
        no_evaluation,
        quiet,
    )
    assert load(tmp_path) is None


@pytest.mark.parametrize(
    "altered",
    [
        {"model.weight": torch.ones(2, 3)},
        {"model.weight": torch.ones(1, 3, dtype=torch.float64)},
        {"model.more": torch.ones(1)},
        {"optimiser.0.exp_avg": torch.ones(4)},
        {"optimiser.7.exp_avg": torch.ones(1, 3)},
        {"optimiser.0.exp_avg": None},
        {"random.cpu.0": torch.ones(3, dtype=torch.uint8)},
        {"model.bias": None},
    ],
)
def test_a_checkpoint_of_other_tensors_counts_as_none(tmp_path, altered):
    leave_checkpoint(tmp_path)
    state = load(tmp_path)
    state.tensors = {name: it for name, it in (state.tensors | altered).items() if it is not None}
    save(tmp_path, state)
    assert_begins_anew(tmp_path)
