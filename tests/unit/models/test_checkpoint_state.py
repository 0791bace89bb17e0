"""Checkpoints read tensor by tensor: what transformers loads, a new head included."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_config, tiny_teacher
from transformers import AutoModel

from raydisc.errors import InputError
from raydisc.models.checkpoint import load_classifier, load_config
from raydisc.models.checkpoint_state import CheckpointState

FAMILY = pytest.mark.parametrize("family", FAMILIES)


def check(folder, finetuned):
    config = load_config(folder)
    config.num_labels = 3
    torch.manual_seed(5)
    wanted = load_classifier(folder, 3, finetuned).state_dict()
    torch.manual_seed(5)
    found = CheckpointState(folder, config, finetuned)
    assert list(found) == list(wanted)
    assert len(found) == len(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)


@FAMILY
def test_a_finished_teacher(family, tmp_path):
    tiny_teacher(tiny_config(family)).save_pretrained(tmp_path)
    check(tmp_path, finetuned=True)


@FAMILY
def test_an_encoder_is_given_the_head_that_transformers_gives_it(family, tmp_path):
    AutoModel.from_config(tiny_config(family)).save_pretrained(tmp_path)
    check(tmp_path, finetuned=False)


def test_a_finished_teacher_without_a_head_is_refused(tmp_path):
    AutoModel.from_config(tiny_config()).save_pretrained(tmp_path)
    config = load_config(tmp_path)
    config.num_labels = 3
    with pytest.raises(InputError, match=r"cannot be read shard by shard: it lacks classifier\."):
        CheckpointState(tmp_path, config, finetuned=True)
