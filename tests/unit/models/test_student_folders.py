import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import DECODERS, FAMILIES, tiny_config
from transformers import AutoModelForSequenceClassification

from raydisc.errors import InputError
from raydisc.models.build import load_frozen
from raydisc.models.student_folder import StudentCard, load_student, plain_config, read_card
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import candidate
from raydisc.testing.models import importance_with_empty_layers, sorted_state, tiny_batch, tiny_teacher

CARD = StudentCard(
    key="0" * 64, schedule="minidisc", path=(0.5,), scale=0.3, kind="classification", classes=("no", "maybe", "yes"),
    text=("premise", "hypothesis"), max_length=32, metric="accuracy", validation_metric=0.75,
)  # fmt: skip


def written(folder, config, allocation):
    """A student of 0.3 in a folder; its widths and weights."""
    importance = importance_with_empty_layers(config)
    widths = candidate(importance, 0.3, allocation).structure
    state = widths.cut(sorted_state(tiny_teacher(config), config, importance), config)
    (plain_config(config, widths) or config).save_pretrained(folder)
    save_file(dict(state), folder / "model.safetensors")
    (folder / "subnet.json").write_text(json.dumps({"scale": 0.3, "heads": widths.heads, "neurons": widths.neurons}))
    CARD.write(folder)
    return widths, state


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_is_used_from_its_folder(tmp_path, family, allocation):
    config = tiny_config(family)
    widths, state = written(tmp_path, config, allocation)
    student = load_student(str(tmp_path))
    batch = tiny_batch(config)
    with torch.no_grad():
        expected = load_frozen(config, widths, state)(**batch.inputs()).logits
        assert torch.equal(student(**batch.inputs()).logits, expected)
    assert not student.training
    assert read_card(tmp_path) == CARD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"classes": ("no", "yes")},
            "classification with 2 outputs and 2 classes",
        ),
        (
            {"kind": "tokens"},
            "tokens with 3 outputs and 3 classes",
        ),
        (
            {"kind": "language", "classes": ()},
            "language with 0 outputs and 0 classes",
        ),
        (
            {"kind": "regression"},
            "regression with 1 outputs and 3 classes",
        ),
    ],
)
def test_a_card_of_another_student(tmp_path, change, said):
    written(tmp_path, tiny_config(), "global")
    replace(CARD, **change).write(tmp_path)
    found = "but the model is a fine-tuned classifier with 3 outputs"
    where = r"the student in '.*' cannot be loaded"
    with pytest.raises(InputError, match=rf"{where} \(raydisc.json states {said}, {found}\); `raydisc res"):
        load_student(tmp_path)


@pytest.mark.parametrize("change", [{"kind": "pictures"}, {"text": ()}, {"text": ("a", "b", "c")}, {"max_length": 0}])
def test_a_card_that_no_student_has(tmp_path, change):
    replace(CARD, **change).write(tmp_path)
    with pytest.raises(InputError, match=rf"is not a student's card \({next(iter(change))} .*`raydisc resume` writes"):
        read_card(tmp_path)


def test_a_folder_without_a_student(tmp_path):
    for call in (load_student, read_card):
        with pytest.raises(InputError, match="holds no student: it has no raydisc.json"):
            call(tmp_path)


@pytest.mark.parametrize("family", DECODERS)
def test_a_uniform_student_of_a_decoder_is_a_plain_model(tmp_path, family):
    config = tiny_config(family)
    widths, state = written(tmp_path, config, "uniform")
    assert widths == Widths((1, 1, 1), (6, 6, 6))
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (2, 1)
    assert model.config.architectures == [type(model).__name__]
    batch = tiny_batch(config)
    with torch.no_grad():
        expected = load_student(tmp_path)(**batch.inputs()).logits
        assert torch.equal(model(**batch.inputs()).logits, expected)
    model.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_no_plain_model(family):
    config = tiny_config(family)
    for widths in (Widths((1, 2, 1), (6, 6, 6)), Widths((1, 1, 1), (6, 5, 6)), Widths((0, 0, 0), (6, 6, 6))):
        assert plain_config(config, widths) is None
    assert (plain_config(config, Widths((2, 2, 2), (6, 6, 6))) is None) == (family not in DECODERS)
