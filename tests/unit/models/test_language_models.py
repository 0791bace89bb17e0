"""Language models of every decoder family: cost, slices, tied embeddings, students' folders."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import DECODERS, tiny_config
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from raydisc.errors import InputError
from raydisc.families.registry import layers_of
from raydisc.models.build import load_frozen, load_trainable
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import forward
from raydisc.models.student_folder import StudentCard, load_student
from raydisc.models.task_heads import put_weights, suit, weights_of
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import candidate, order_units, reordered
from raydisc.supernet.elastic import make_elastic, select
from raydisc.supernet.importance import gradient_importance
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Split
from raydisc.testing.models import VOCABULARY, importance_with_empty_layers
from raydisc.testing.tolerance import assert_near
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

pytestmark = [pytest.mark.integration, pytest.mark.numerics]

ROWS, LENGTH = 5, 9


def language_config(family="llama", tied=True, attention="sdpa"):
    config = tiny_config(family, attention=attention)
    config.tie_word_embeddings = tied
    suit(config, task_kind("language"), num_labels=0, pad_id=None)
    return config


def language_teacher(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def split():
    ids = np.random.default_rng(0).integers(5, VOCABULARY, (ROWS, LENGTH)).tolist()
    return Split(pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32()))}), task_kind("language"))


def batch():
    return split().batch(np.arange(ROWS), 0)


def narrow(config, scale=0.5):
    """A supernet, its importance, and the state of the candidate at a scale with its widths."""
    teacher, importance = language_teacher(config), importance_with_empty_layers(config)
    state = reordered(weights_of(teacher), layers_of(config), order_units(importance))
    widths = candidate(importance, scale).structure
    return state, widths.cut(state, config), widths


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_a_slice_is_its_extraction_and_says_the_next_tokens(family, tied):
    config = language_config(family, tied)
    state, small, widths = narrow(config)
    supernet = load_trainable(config, Widths.full(config), state)
    make_elastic(supernet, config)
    select(supernet, config, widths)
    extracted = load_frozen(config, widths, small)
    with torch.no_grad():
        found, expected = forward(supernet, batch(), (0, 3)), forward(extracted, batch(), (0, 3))
        whole = extracted(batch().input_ids).logits
    assert_near(found.logits, expected.logits)
    assert_near(expected.logits, whole[:, :-1].flatten(0, 1))
    assert found.logits.shape == (ROWS * (LENGTH - 1), VOCABULARY)


@pytest.mark.parametrize("family", DECODERS)
def test_cost_is_what_torch_counts(family):
    config = language_config(family, attention="eager")
    _, small, widths = narrow(config)
    model = load_trainable(config, widths, small)
    flops = ForwardCost.of(model, config).flops(widths, ROWS, LENGTH)
    with FlopCounterMode(display=False) as counter:
        logits = forward(model, batch(), ()).logits
    assert counter.get_total_flops() == flops
    with FlopCounterMode(display=False) as counter:
        forward(model, batch(), ()).logits.sum().backward()
    assert counter.get_total_flops() == STEP_FORWARDS * flops
    assert logits.shape[0] == len(batch().labels)


@pytest.mark.parametrize("assign", [True, False])
def test_a_tied_head_is_kept_once_and_tied_again(assign):
    config = language_config()
    state = {name: tensor.clone() for name, tensor in weights_of(language_teacher(config)).items()}
    assert "lm_head.weight" not in state
    model = language_teacher(language_config())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    put_weights(model, state, assign)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, state["model.embed_tokens.weight"])
    assert (model.lm_head.weight.data_ptr() == state["model.embed_tokens.weight"].data_ptr()) == assign


def test_a_head_of_its_own_is_kept_and_missing_weights_are_refused():
    config = language_config(tied=False)
    state = weights_of(language_teacher(config))
    assert "lm_head.weight" in state
    del state["lm_head.weight"]
    with pytest.raises(RuntimeError, match="weights missing: \\['lm_head.weight'\\]"):
        put_weights(language_teacher(config), state)


def test_predictions_are_each_rows_mean_loss():
    config = language_config()
    model = language_teacher(config)
    found = predict(model, split(), 0, Pass(2))
    with torch.no_grad():
        logits = model(batch().input_ids).logits[:, :-1]
    losses = functional.cross_entropy(logits.transpose(1, 2), batch().input_ids[:, 1:], reduction="none").mean(1)
    assert_near(found[:, 0], losses.numpy())


def test_importance_sees_each_row_by_itself():
    """The expectation over rows of absolute gradients: more than that of their sum, and none is lost."""
    config = language_config()
    layers, model = layers_of(config), language_teacher(config)
    together = gradient_importance(model, layers, [batch()])
    one_by_one = [split().batch(np.array([row]), 0) for row in range(ROWS)]
    apart = gradient_importance(model, layers, one_by_one)
    for mine, other in zip(together.heads + together.neurons, apart.heads + apart.neurons, strict=True):
        assert_near(mine, other)
        assert (mine > 0).all()


def test_a_student_is_used_from_its_folder(tmp_path):
    config = language_config("qwen3")
    _, small, widths = narrow(config, 0.3)
    config.save_pretrained(tmp_path)
    save_file(dict(small), tmp_path / "model.safetensors")
    (tmp_path / "subnet.json").write_text(json.dumps({"scale": 0.3, "heads": widths.heads, "neurons": widths.neurons}))
    StudentCard(
        key="0" * 64, schedule="minidisc", path=(0.5,), scale=0.3, kind="language", classes=(), text=("text",),
        max_length=LENGTH, metric="token_likelihood", validation_metric=0.05,
    ).write(tmp_path)  # fmt: skip
    student = load_student(tmp_path)
    with torch.no_grad():
        expected = load_frozen(config, widths, small)(batch().input_ids).logits
        assert torch.equal(student(batch().input_ids).logits, expected)
    assert student.generate(batch().input_ids, max_new_tokens=3, pad_token_id=0).shape == (ROWS, LENGTH + 3)


def test_an_encoder_is_no_language_model():
    with pytest.raises(InputError, match="which 'bert' does not have; families that have one: gemma"):
        suit(tiny_config("bert"), task_kind("language"), 0, 0)
