import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import (
    FAMILIES,
    importance_with_empty_layers,
    sorted_state,
    tiny_batch,
    tiny_config,
    tiny_teacher,
)

from raydisc.errors import InputError
from raydisc.models.dense import cut, load_frozen
from raydisc.models.student import StudentCard, load_student, read_card
from raydisc.supernet.grid import candidate

CARD = StudentCard(
    key="0" * 64, schedule="minidisc", path=(0.5,), scale=0.3, kind="classification", classes=("no", "maybe", "yes"),
    text=("premise", "hypothesis"), max_length=32, metric="accuracy", validation_metric=0.75,
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_is_used_from_its_folder(tmp_path, family):
    config = tiny_config(family)
    importance = importance_with_empty_layers(config)
    widths = candidate(importance, 0.3).widths
    state = cut(sorted_state(tiny_teacher(config), config, importance), config, widths)
    config.save_pretrained(tmp_path)
    save_file(dict(state), tmp_path / "model.safetensors")
    (tmp_path / "subnet.json").write_text(json.dumps({"scale": 0.3, "heads": widths.heads, "neurons": widths.neurons}))
    CARD.write(tmp_path)

    student = load_student(str(tmp_path))
    batch = tiny_batch(config)
    with torch.no_grad():
        expected = load_frozen(config, widths, state)(**batch.inputs()).logits
        assert torch.equal(student(**batch.inputs()).logits, expected)
    assert not student.training
    assert read_card(tmp_path) == CARD


def test_a_folder_without_a_student(tmp_path):
    for call in (load_student, read_card):
        with pytest.raises(InputError, match="holds no student: it has no raydisc.json"):
            call(tmp_path)
