import pytest
import torch
from tiny_models import FAMILIES, tiny_config
from torch.func import functional_call
from torch.nn import functional

from raydisc.families.registry import layers_of
from raydisc.supernet.candidates import candidate
from raydisc.supernet.importance import (
    compares_over_the_model,
    gradient_importance,
    magnitude_importance,
    random_importance,
)
from raydisc.testing.models import state_of, tiny_split, tiny_teacher
from raydisc.testing.tolerance import assert_near

pytestmark = pytest.mark.numerics

LENGTHS = (9, 2, 6, 12, 4, 7)


def of_batches(model, config, split, batches):
    rows = [split.batch(torch.tensor(batch).numpy(), config.pad_token_id) for batch in batches]
    return gradient_importance(model, layers_of(config), rows)


def brute_force(model, config, split, regression):
    """Each example alone, unpadded; the mask multiplies the columns of the weight that reads the unit."""
    state = dict(model.named_parameters())
    totals = None
    for row in range(len(split)):
        batch = split.batch(torch.tensor([row]).numpy(), config.pad_token_id)
        masks, masked = [], dict(state)
        for units in layers_of(config):
            for kind in (units.heads, units.neurons):
                masks.append(torch.ones(kind.count, requires_grad=True))
                name = f"{kind.input.path}.weight"
                masked[name] = state[name] * masks[-1].repeat_interleave(kind.input.size)
        logits = functional_call(model, masked, kwargs=batch.inputs()).logits
        if regression:
            loss = (logits[0, 0] - batch.labels[0]) ** 2
        else:
            loss = -functional.log_softmax(logits[0], dim=-1)[batch.labels[0]]
        gradients = [gradient.abs().double() for gradient in torch.autograd.grad(loss, masks)]
        totals = gradients if totals is None else [a + b for a, b in zip(totals, gradients, strict=True)]
    scores = [(total / total.norm()).float() for total in totals]
    return tuple(scores[0::2]), tuple(scores[1::2])


@pytest.mark.parametrize("num_labels", [3, 1], ids=["classes", "regression"])
@pytest.mark.parametrize("family", FAMILIES)
def test_importance_is_a_loop_over_examples(family, num_labels):
    config = tiny_config(family, num_labels)
    model, split = tiny_teacher(config), tiny_split(LENGTHS, num_labels)
    heads, neurons = brute_force(model, config, split, num_labels == 1)
    found = of_batches(model, config, split, [[0, 1, 2, 3], [4, 5]])
    for mine, theirs in zip((*found.heads, *found.neurons), (*heads, *neurons), strict=True):
        assert_near(mine, theirs)
        assert mine.std() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_and_padding_do_not_matter(family):
    config = tiny_config(family)
    model, split = tiny_teacher(config), tiny_split(LENGTHS)
    ways = ([[0, 1, 2, 3, 4, 5]], [[row] for row in range(6)], [[5, 0], [3, 1], [2, 4]])
    first, *others = (of_batches(model, config, split, way) for way in ways)
    for other in others:
        for mine, theirs in zip((*first.heads, *first.neurons), (*other.heads, *other.neurons), strict=True):
            assert_near(mine, theirs)


def test_the_mean_is_over_examples_and_not_over_batches():
    """An example counts the same alone in its batch and among many: absolute values are taken one by one."""
    config = tiny_config()
    model, split = tiny_teacher(config), tiny_split(LENGTHS)
    doubled = of_batches(model, config, split, [[0, 1, 2], [0]])
    again = of_batches(model, config, split, [[0], [0, 2], [1]])
    assert_near(doubled.heads[0], again.heads[0])
    once = of_batches(model, config, split, [[0, 1, 2]])
    assert (doubled.heads[0] - once.heads[0]).abs().max() > 1e-3


def test_scores_have_length_one_in_each_layer():
    config = tiny_config()
    model, split = tiny_teacher(config), tiny_split(LENGTHS)
    for found in (
        of_batches(model, config, split, [range(6)]),
        magnitude_importance(model, layers_of(config)),
        random_importance(layers_of(config), 3),
    ):
        assert [len(score) for score in found.heads] == [4, 4, 4]
        assert [len(score) for score in found.neurons] == [20, 20, 20]
        for score in (*found.heads, *found.neurons):
            assert score.norm() == pytest.approx(1, abs=1e-6)
            assert (score >= 0).all()
            assert score.dtype == torch.float32


def test_the_teacher_is_left_as_it_was():
    config = tiny_config(dropout=0.5)
    model, split = tiny_teacher(config).train(), tiny_split(LENGTHS)
    before = state_of(model)
    first = of_batches(model, config, split, [[0, 1], [2, 3, 4]])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    second = of_batches(model, config, split, [[0, 1], [2, 3, 4]])  # dropout is off
    assert torch.equal(first.heads[1], second.heads[1])


def test_no_rows_are_no_importance():
    config = tiny_config()
    with pytest.raises(ValueError, match="at least one"):
        of_batches(tiny_teacher(config), config, tiny_split(LENGTHS), [])


@pytest.mark.parametrize("family", FAMILIES)
def test_magnitude_is_the_norm_of_what_goes_with_the_unit(family):
    config = tiny_config(family)
    state = state_of(tiny_teacher(config))
    found = magnitude_importance(tiny_teacher(config), layers_of(config))
    for units, heads, neurons in zip(layers_of(config), found.heads, found.neurons, strict=True):
        for scores, kind in ((heads, units.heads), (neurons, units.neurons)):
            norms = []
            for unit in range(len(scores)):
                parts = []
                for linear in kind.linears:
                    weight = state[f"{linear.path}.weight"]
                    for block in (weight if linear.axis == 0 else weight.T).chunk(linear.blocks):
                        parts.append(block[unit * linear.size : (unit + 1) * linear.size])
                norms.append(torch.cat([part.flatten() for part in parts]).norm())
            expected = torch.stack(norms) / torch.stack(norms).norm()
            assert_near(scores, expected)


def test_random_scores_follow_their_seed():
    layers = layers_of(tiny_config())
    first, same, other = (random_importance(layers, seed) for seed in (1, 1, 2))
    assert torch.equal(first.heads[2], same.heads[2])
    assert not torch.equal(first.heads[2], other.heads[2])
    assert not torch.equal(first.neurons[0], first.neurons[1])


def teacher_of_few_groups(family, groups, worthless):
    """Return a teacher of six layers, the attention of some of which adds next to nothing to the residual stream."""
    config = tiny_config(family)
    config.num_hidden_layers, config.num_key_value_heads = 6, groups
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * 6)[:6]
    model = tiny_teacher(config)
    with torch.no_grad():
        for layer in worthless:
            block = model.get_submodule(f"model.layers.{layer}")
            if family == "gemma3_text":  # the norm after attention would undo smaller weights; it multiplies by 1 + w
                block.post_attention_layernorm.weight.fill_(-0.999)
            else:
                block.self_attn.o_proj.weight.mul_(0.001)
    return model, config


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("family", ["gemma", "gemma3_text"])
def test_layers_of_few_groups_compete_by_what_their_attention_is_worth(family, groups):
    model, config = teacher_of_few_groups(family, groups, worthless=(0, 1, 2))
    found = of_batches(model, config, tiny_split(LENGTHS), [range(6)])
    kept = candidate(found, 0.5).structure.heads
    assert kept == (0, 0, 0, groups, groups, groups)
    assert torch.cat(found.heads).norm() == pytest.approx(1, abs=1e-6)
    assert all(score.norm() == pytest.approx(1, abs=1e-6) for score in found.neurons), "neurons are many"


def test_four_units_a_layer_are_enough_for_the_norm_of_a_layer():
    assert compares_over_the_model([4, 4, 3])
    assert not compares_over_the_model([4, 4, 4])
