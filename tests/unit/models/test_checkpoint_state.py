"""Checkpoints read tensor by tensor: what transformers loads, a new head included."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import DECODERS, FAMILIES, tiny_config
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from raydisc.errors import InputError
from raydisc.models.checkpoint_state import CheckpointState
from raydisc.models.task_heads import weights_of
from raydisc.models.teacher_checkpoint import load_teacher, suited_config
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import tiny_teacher

FAMILY = pytest.mark.parametrize("family", FAMILIES)


def check(folder, finetuned, kind="classification"):
    config = suited_config(folder, task_kind(kind), 3, 0, finetuned)
    torch.manual_seed(5)
    wanted = weights_of(load_teacher(folder, task_kind(kind), 3, 0, finetuned))
    torch.manual_seed(5)
    found = CheckpointState(folder, config, finetuned)
    assert list(found) == list(wanted)
    assert len(found) == len(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)


@FAMILY
def test_a_model_without_a_head_is_given_the_one_that_transformers_gives_it(family, tmp_path):
    base = AutoModelForSeq2SeqLM if family.endswith("t5") else AutoModel
    base.from_config(tiny_config(family)).save_pretrained(tmp_path)
    check(tmp_path, finetuned=False)


@pytest.mark.parametrize("family", DECODERS)
def test_a_language_model(family, tmp_path):
    AutoModelForCausalLM.from_config(tiny_config(family)).save_pretrained(tmp_path)
    check(tmp_path, finetuned=True, kind="language")


def test_weights_of_mixed_types_are_all_read_as_float32(tmp_path):
    tiny_teacher(tiny_config()).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    types = (torch.float16, torch.bfloat16, torch.float32)
    mixed = {name: tensor.to(types[place % 3]) for place, (name, tensor) in enumerate(load_file(path).items())}
    save_file(mixed, path, metadata={"format": "pt"})
    check(tmp_path, finetuned=True)


def test_a_finished_teacher_without_a_head_is_refused(tmp_path):
    AutoModel.from_config(tiny_config()).save_pretrained(tmp_path)
    config = suited_config(tmp_path, task_kind("classification"), 3, 0, finetuned=True)
    with pytest.raises(InputError, match=r"is not a fine-tuned classifier \(it lacks classifier\."):
        CheckpointState(tmp_path, config, finetuned=True)


def test_weights_of_another_configuration_are_refused(tmp_path):
    tiny_teacher(tiny_config()).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 21}))
    config = suited_config(tmp_path, task_kind("classification"), 3, 0, finetuned=False)
    with pytest.raises(InputError, match=r"are not those of its config.json \(bert.encoder.layer.0.intermediate"):
        CheckpointState(tmp_path, config, finetuned=False)
