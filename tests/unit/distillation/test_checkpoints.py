"""Checkpoints take the room of one."""

from pathlib import Path

import pytest
import torch

from raydisc.distillation.checkpoint import TrainingState, load, save
from raydisc.distillation.loop import checkpoint_pause


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
