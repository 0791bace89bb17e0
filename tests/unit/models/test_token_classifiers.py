"""Token classifiers of every family that has one: what they say of which token, what they cost, teachers, students."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import TAGGERS, tiny_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSeq2SeqLM, AutoModelForTokenClassification

from raydisc.errors import InputError
from raydisc.families.registry import layers_of
from raydisc.losses.labels import task_loss
from raydisc.models.build import load_frozen, load_trainable
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import forward
from raydisc.models.student_folder import StudentCard, load_student, plain_config
from raydisc.models.task_heads import TokenHead, head_of, model_class, suit
from raydisc.models.teacher_checkpoint import check_head, check_outputs, load_config, load_teacher, suited_config
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import candidate
from raydisc.supernet.importance import gradient_importance
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import (
    importance_with_empty_layers,
    sorted_state,
    tagging,
    tiny_batch,
    tiny_split,
    tiny_teacher,
)
from raydisc.testing.tolerance import assert_near
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

pytestmark = pytest.mark.numerics

LENGTHS = (9, 3, 6, 1)


def tagger(family="bert", seed=0, **settings):
    config = tagging(tiny_config(family, **settings))
    return config, tiny_teacher(config, seed)


@pytest.mark.parametrize("family", TAGGERS)
def test_the_tokens_that_are_asked_for_are_answered_row_after_row(family):
    config, model = tagger(family)
    batch = tiny_batch(config, LENGTHS)
    with torch.no_grad():
        found = forward(model, batch, (0, 3))
        for row, length in enumerate(LENGTHS):
            alone = model(input_ids=batch.input_ids[row : row + 1, :length]).logits[0]
            mine = batch.label_counts[:row].sum() + np.arange(batch.label_counts[row])
            asked = np.flatnonzero(batch.tagged[row])
            if batch.token_type_ids is None:
                assert_near(found.logits[mine], alone[asked])
    assert found.logits.shape == (len(batch.labels), 3)
    assert len(found.hidden) == 2
    assert found.logits.std() > 0.1


def test_bert_with_types_answers_the_same_tokens():
    config, model = tagger("bert")
    batch = tiny_batch(config, LENGTHS)
    with torch.no_grad():
        expected = model(**batch.inputs()).logits[torch.from_numpy(batch.tagged)]
        assert_near(forward(model, batch, ()).logits, expected)


def test_the_loss_is_a_mean_over_tags():
    """As transformers computes it, with -100 where nothing is asked."""
    config, model = tagger("bert")
    batch = tiny_batch(config, LENGTHS)
    labels = torch.full_like(batch.input_ids, -100)
    labels[torch.from_numpy(batch.tagged)] = batch.labels
    with torch.no_grad():
        expected = float(model(**batch.inputs(), labels=labels).loss)
        total, count = task_loss(forward(model, batch, ()).logits, batch)
        assert float(total / count) == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_tags_has_no_loss():
    """Of words that all were cut off."""
    config, model = tagger("bert")
    batch = tiny_batch(config, LENGTHS)
    batch = replace(batch, tagged=np.zeros_like(batch.tagged), labels=batch.labels[:0])
    total, count = task_loss(forward(model, batch, ()).logits, batch)
    assert float(total.detach() / count) == 0.0


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("family", TAGGERS)
def test_cost_is_what_torch_counts(family, scale):
    config, teacher = tagger(family, attention="eager")
    batch, importance = tiny_batch(config, (11, 4, 8)), importance_with_empty_layers(config)
    widths = candidate(importance, scale).structure
    model = load_trainable(config, widths, widths.cut(sorted_state(teacher, config, importance), config))
    flops = ForwardCost.of(model, config).flops(widths, *batch.shape)
    with FlopCounterMode(display=False) as counter:
        forward(model, batch, ())
    assert counter.get_total_flops() == flops
    with FlopCounterMode(display=False) as counter:
        forward(model, batch, ()).logits.sum().backward()
    assert counter.get_total_flops() == STEP_FORWARDS * flops


def test_predictions_are_classes_of_the_asked_tokens():
    config, model = tagger("bert")
    split = tiny_split(LENGTHS, 3, tags=True)
    found = predict(model, split, 0, Pass(3))
    assert found.shape == (4, 6)
    for row in range(len(LENGTHS)):
        batch = split.batch(np.array([row]), 0)
        with torch.no_grad():
            classes = model(input_ids=batch.input_ids).logits[0].argmax(-1)[batch.tagged[0]]
        assert found[row, : batch.label_counts[0]].tolist() == classes.tolist()
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    assert np.isnan(predict(model, split, 0, Pass(3))[0]).all()


def test_importance_sees_each_row_by_itself():
    """A row's loss is the sum over its tags."""
    config, model = tagger("mt5")
    split, layers = tiny_split(LENGTHS, 3, tags=True), layers_of(config)
    together = gradient_importance(model, layers, [split.batch(np.arange(4), 0)])
    one_by_one = [split.batch(np.array([row]), 0) for row in range(4)]
    apart = gradient_importance(model, layers, one_by_one)
    for mine, other in zip(together.heads + together.neurons, apart.heads + apart.neurons, strict=True):
        assert_near(mine, other)
        assert (mine > 0).any()


@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_enct5_reads_tags_from_the_encoder_of_a_checkpoint_of_t5(tmp_path, family):
    torch.manual_seed(3)
    pretrained = AutoModelForSeq2SeqLM.from_config(tiny_config(family)).eval()
    pretrained.save_pretrained(tmp_path)
    loaded = load_teacher(tmp_path, task_kind("tokens"), 5, 0, finetuned=False).eval()
    batch = tiny_batch(tiny_config(family))
    with torch.no_grad():
        expected = pretrained.encoder(**batch.inputs()).last_hidden_state
        found = loaded.transformer(**batch.inputs()).last_hidden_state
        logits = loaded(**batch.inputs()).logits
    real = batch.attention_mask.bool()
    assert_near(found[real], expected[real])
    assert_near(logits, loaded.classifier(found))
    assert not any("decoder" in name or "prompt" in name for name in loaded.state_dict())
    with pytest.raises(InputError, match="labels whole texts but the task labels each token"):
        suited_config(tmp_path, task_kind("tokens"), 5, 0, finetuned=True)


@pytest.mark.parametrize("family", ["bert", "mt5"])
def test_a_token_classifier_is_a_finished_teacher_of_a_token_task_alone(tmp_path, family):
    config, model = tagger(family)
    model.save_pretrained(tmp_path)
    loaded = load_teacher(tmp_path, task_kind("tokens"), 3, 0, finetuned=True)
    check_head(tmp_path, loaded.config)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    config = load_config(tmp_path)
    with pytest.raises(InputError, match="labels each token but the task labels whole texts.*add teacher.finetune"):
        check_outputs(config, task_kind("classification"), 3, tmp_path)
    with pytest.raises(InputError, match="has 3 labels but the task has 4"):
        check_outputs(config, task_kind("tokens"), 4, tmp_path)
    anew = suited_config(tmp_path, task_kind("classification"), 3, 0, finetuned=False)
    assert not isinstance(head_of(anew), TokenHead)


def test_a_family_without_token_classifiers_is_refused():
    with pytest.raises(InputError, match="transformers does not have for the family 'gemma3_text'"):
        suit(tiny_config("gemma3_text"), task_kind("tokens"), 3, 0)


@pytest.mark.parametrize(("family", "plain"), [("modernbert", False), ("t5", False), ("qwen3", True)])
def test_a_student_is_used_from_its_folder(tmp_path, family, plain):
    config, teacher = tagger(family)
    importance = importance_with_empty_layers(config)
    widths = candidate(importance, 0.3, "uniform").structure
    state = widths.cut(sorted_state(teacher, config, importance), config)
    as_plain = plain_config(config, widths)
    assert (as_plain is not None) == plain
    (as_plain or config).save_pretrained(tmp_path)
    save_file(dict(state), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "subnet.json").write_text(json.dumps({"scale": 0.3, "heads": widths.heads, "neurons": widths.neurons}))
    StudentCard(
        key="0" * 64, schedule="minidisc", path=(0.5,), scale=0.3, kind="tokens", classes=("O", "B-A", "I-A"),
        text=("words",), max_length=32, metric="span_f1", validation_metric=0.75,
    ).write(tmp_path)  # fmt: skip
    batch = tiny_batch(config)
    with torch.no_grad():
        expected = load_frozen(config, widths, state)(**batch.inputs()).logits
        assert torch.equal(load_student(tmp_path)(**batch.inputs()).logits, expected)
        assert expected.shape == (*batch.input_ids.shape, 3)
        if plain:
            found = AutoModelForTokenClassification.from_pretrained(tmp_path)(**batch.inputs()).logits
            assert_near(found, expected)


def test_what_a_model_is_for_survives_its_configuration():
    config = tagging(tiny_config("roberta"))
    again = type(config).from_dict(config.to_dict())
    assert model_class(again) is AutoModelForTokenClassification
    assert Widths.full(again) == Widths.full(config)
