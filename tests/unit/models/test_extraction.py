"""One function in three shapes: the teacher, a slice of the supernet, and the dense model that is cut from it."""

import pytest
import torch
from tiny_models import (
    FAMILIES,
    KINDS,
    everything,
    gradients_of,
    identity_order,
    importance_with_empty_layers,
    sorted_state,
    state_of,
    tagging,
    tiny_batch,
    tiny_config,
    tiny_teacher,
)
from tolerance import assert_all_near, assert_near

from raydisc.families.registry import layers_of
from raydisc.models.attention import SDPA_OR_NOTHING
from raydisc.models.build import build, config_from_dict, load_frozen, load_trainable
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import candidate, reordered
from raydisc.supernet.elastic import make_elastic, select

pytestmark = pytest.mark.numerics

SCALES = (1.0, 0.8, 0.5, 0.3, 0.1, 0.01)


@pytest.fixture(
    params=[
        *((family, "sdpa") for family in FAMILIES),
        *((family, "eager") for family in KINDS),
        *((family, "tags") for family in ("modernbert", "mt5")),
    ],
    ids="-".join,
)
def config(request):
    family, attention = request.param
    if attention == "tags":
        return tagging(tiny_config(family))
    return tiny_config(family, attention=attention)


def supernet_of(config, state, widths):
    model = load_trainable(config, widths, widths.cut(state, config))
    make_elastic(model, config)
    return model.eval()


def assert_near_outputs(found, expected):
    assert_near(found.logits, expected.logits)
    for mine, theirs in zip(found.hidden, expected.hidden, strict=True):
        assert_near(mine, theirs)


def scalar(outputs):
    return outputs.logits.square().sum() + sum(hidden.square().mean() for hidden in outputs.hidden)


def test_scale_one_is_the_teacher(config):
    """In eager and fused attention; sorting the units changes the order of a sum and nothing else."""
    teacher, batch = tiny_teacher(config), tiny_batch(config)
    importance = importance_with_empty_layers(config)
    whole = candidate(importance, 1.0)
    assert whole.widths == Widths.full(config)
    supernet = supernet_of(config, sorted_state(teacher, config, importance), whole.widths)
    select(supernet, config, whole.widths)
    with torch.no_grad():
        expected = everything(teacher, config, batch)
        assert_near_outputs(everything(supernet, config, batch), expected)
        unsorted = reordered(state_of(teacher), layers_of(config), identity_order(config))
        same = everything(load_frozen(config, whole.widths, unsorted), config, batch)
    assert torch.equal(same.logits, expected.logits)
    assert expected.logits.std() > 0.1


@pytest.mark.parametrize("scale", SCALES)
def test_slice_equals_extraction(config, scale):
    """Outputs and gradients, of every candidate, from the whole teacher and from a narrower supernet."""
    batch = tiny_batch(config)
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    chosen = candidate(importance, scale).widths
    dense = load_trainable(config, chosen, chosen.cut(state, config)).eval()
    expected = everything(dense, config, batch)
    scalar(expected).backward()
    expected_gradients = gradients_of(dense)

    for largest in {1.0, max(scale, 0.6)}:
        held = candidate(importance, largest).widths
        supernet = supernet_of(config, state, held)
        select(supernet, config, Widths((1, 1, 1), (1, 1, 1)))  # what was active before leaves no trace
        select(supernet, config, chosen)
        found = everything(supernet, config, batch)
        assert_near_outputs(found, expected)
        scalar(found).backward()
        gradients = gradients_of(supernet)
        assert_all_near(chosen.cut(gradients, config), expected_gradients)
        inside = sum(gradient.square().sum() for gradient in expected_gradients.values())
        everywhere = sum(gradient.square().sum() for gradient in gradients.values())
        torch.testing.assert_close(everywhere, inside, rtol=1e-4, atol=0)  # nothing outside the slice


def test_candidates_have_layers_without_heads_or_neurons(config):
    """The case above is met: layers that keep only their residual path and norm."""
    importance = importance_with_empty_layers(config)
    assert candidate(importance, 0.5).widths.heads[1] == 0
    assert candidate(importance, 0.5).widths.neurons[0] == 0
    assert sum(candidate(importance, 0.01).widths.heads) == 1


@pytest.mark.parametrize("scale", [0.8, 0.3])
def test_extraction_equals_masking_the_teacher(config, scale):
    """The independent way to prune: the teacher, nothing reordered, with the pruned units' columns set to zero."""
    batch, teacher = tiny_batch(config), tiny_teacher(config)
    importance = importance_with_empty_layers(config)
    chosen = candidate(importance, scale).widths
    dense = load_frozen(config, chosen, chosen.cut(sorted_state(teacher, config, importance), config))
    kept = {"heads": sum(chosen.heads), "neurons": sum(chosen.neurons)}
    for kind in ("heads", "neurons"):
        scores = getattr(importance, kind)
        threshold = torch.cat(scores).sort(descending=True).values[kept[kind] - 1]
        for units, score in zip(layers_of(config), scores, strict=True):
            reader = getattr(units, kind).input
            pruned = (score < threshold).repeat_interleave(reader.size)
            with torch.no_grad():
                teacher.get_submodule(reader.path).weight[:, pruned] = 0
    with torch.no_grad():
        assert_near_outputs(everything(dense, config, batch), everything(teacher, config, batch))


def test_cutting_twice_is_cutting_once(config):
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    wide, narrow = (candidate(importance, scale).widths for scale in (0.6, 0.2))
    once, twice = narrow.cut(state, config), narrow.cut(wide.cut(state, config), config)
    assert once.keys() == twice.keys() == state.keys()
    assert all(torch.equal(once[name], twice[name]) and once[name].is_contiguous() for name in once)


def test_frozen_aliases_and_trainable_copies(config):
    state = state_of(tiny_teacher(config))
    widths = Widths.full(config)
    frozen, trainable = load_frozen(config, widths, state), load_trainable(config, widths, state)
    for name, parameter in frozen.named_parameters():
        assert parameter.data_ptr() == state[name].data_ptr()
        assert not parameter.requires_grad
    for name, parameter in trainable.named_parameters():
        assert parameter.data_ptr() != state[name].data_ptr()
        assert parameter.requires_grad
        assert torch.equal(parameter, state[name])
    assert not frozen.training


def test_elastic_keeps_parameters_and_names(config):
    model = tiny_teacher(config)
    before = dict(model.named_parameters())
    make_elastic(model, config)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == {
        name: id(parameter) for name, parameter in before.items()
    }


def test_configuration_survives_json(config):
    widths = Widths((2, 0, 1), (3, 4, 0))
    again = config_from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    shapes = [{name: p.shape for name, p in build(c, widths).named_parameters()} for c in (config, again)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_asked_for_is_the_one_that_runs(attention):
    config = tiny_config(attention=attention)
    dense = build(config, Widths((2, 0, 1), (3, 4, 0)))
    assert dense.config._attn_implementation == {"sdpa": SDPA_OR_NOTHING}.get(attention, attention)
    assert tiny_teacher(config).config._attn_implementation == config._attn_implementation == attention
