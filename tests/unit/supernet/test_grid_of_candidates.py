import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_models import FAMILIES, size_at, tiny_config

from raydisc.errors import InputError
from raydisc.families.base import Family
from raydisc.families.registry import FAMILIES as FAMILIES_WITH_ADAPTERS
from raydisc.families.registry import layers_of
from raydisc.models.build import load_trainable
from raydisc.models.widths import Widths, prunable_parameters
from raydisc.supernet.candidates import (
    UnitOrder,
    candidate,
    order_units,
    reordered,
    scale_for_parameters,
    units_kept,
)
from raydisc.supernet.importance import Importance, random_importance
from raydisc.testing.models import importance_with_empty_layers, sorted_state, state_of, tiny_teacher

SCALES = (1.0, 0.95, 0.9, 0.7, 0.5, 0.45, 0.3, 0.2, 0.1, 0.05, 0.01, 0.001)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def brute_force_widths(scores, kept):
    """Every unit with its layer, best first."""
    units = [(-float(score), layer, unit) for layer, row in enumerate(scores) for unit, score in enumerate(row)]
    best = sorted(units)[:kept]
    return tuple(sum(1 for _, at, _ in best if at == layer) for layer in range(len(scores)))


@pytest.mark.parametrize("seed", range(5))
def test_candidates_are_nested_for_every_pair(seed):
    importance = random_importance(layers_of(tiny_config()), seed)
    candidates = [candidate(importance, scale) for scale in SCALES]
    for larger, smaller in itertools.combinations(candidates, 2):
        assert larger.structure.contains(smaller.structure)
    assert candidates[0].structure == Widths((4, 4, 4), (20, 20, 20))


@pytest.mark.parametrize("scale", SCALES)
def test_each_kind_is_ranked_over_the_whole_model(scale):
    importance = importance_with_empty_layers(tiny_config(), seed=4)
    widths = candidate(importance, scale).structure
    assert sum(widths.heads) == max(1, round(scale * 12))
    assert sum(widths.neurons) == max(1, round(scale * 60))
    assert widths.heads == brute_force_widths(importance.heads, sum(widths.heads))
    assert widths.neurons == brute_force_widths(importance.neurons, sum(widths.neurons))


@pytest.mark.parametrize("scale", SCALES)
def test_uniform_widths_are_the_same_in_every_layer(scale):
    importance = importance_with_empty_layers(tiny_config(), seed=4)
    widths = candidate(importance, scale, "uniform").structure
    assert widths == Widths((max(1, round(scale * 4)),) * 3, (max(1, round(scale * 20)),) * 3)
    larger = candidate(importance, min(1.0, scale + 0.1), "uniform").structure
    assert larger.contains(widths)
    assert 0 in candidate(importance, 0.3).structure.heads  # where units compete over the whole model a layer loses all


def test_no_scale_keeps_nothing():
    assert [units_kept(12, scale) for scale in (1e-6, 0.01, 0.1, 0.5, 0.96, 1.0)] == [1, 1, 1, 6, 12, 12]


def test_equal_scores_keep_the_teachers_order():
    tied = Importance((torch.full((4,), 0.5),) * 3, (torch.full((20,), 0.5),) * 3)
    assert order_units(tied).heads == ((0, 1, 2, 3),) * 3
    assert candidate(tied, 0.5).structure.heads == (4, 2, 0)  # first layers first
    assert candidate(tied, 0.5).structure.neurons == (20, 10, 0)
    partly = Importance((torch.tensor([0.1, 0.9, 0.9, 0.1]),), (torch.tensor([0.2, 0.2, 0.3]),))
    assert order_units(partly) == UnitOrder(((1, 2, 0, 3),), ((2, 0, 1),))


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [1.0, 0.3, 0.001])
def test_sizes_are_those_of_the_extracted_model(family, scale, allocation):
    config = tiny_config(family)
    teacher, importance = tiny_teacher(config), importance_with_empty_layers(config)
    widths = candidate(importance, scale, allocation).structure
    dense = load_trainable(config, widths, widths.cut(sorted_state(teacher, config, importance), config))
    size = widths.size(config, count(teacher))
    assert size.parameters == count(dense)
    prunable = prunable_parameters(config, Widths.full(config))
    assert size.measured_scale == pytest.approx((prunable - (count(teacher) - count(dense))) / prunable)


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama"])
def test_the_largest_scale_that_fits(family):
    config = tiny_config(family)
    whole = count(tiny_teacher(config))
    floor = size_at(config, whole, 0.001).parameters
    for parameters in (floor, (floor + whole) / 2, whole - 1):
        scale = scale_for_parameters(config, whole, parameters)
        assert size_at(config, whole, scale).parameters <= parameters
        if scale < 0.999:
            assert size_at(config, whole, round(scale + 0.001, 3)).parameters > parameters
        assert scale == round(scale, 3)
    assert scale_for_parameters(config, whole, whole - 1) > scale_for_parameters(config, whole, floor)


class Unequal(Family):
    """BERT, whose last layer is said to have neurons of twice the width."""

    model_type = "unequal"

    def layers(self, config):
        *first, last = layers_of(tiny_config())
        return (*first, replace(last, hidden_size=2 * last.hidden_size))


def test_layers_whose_units_differ_in_size():
    config = SimpleNamespace(model_type="unequal")
    with FAMILIES_WITH_ADAPTERS.registering(Unequal()):
        alike, other = (prunable_parameters(config, Widths(heads, (0, 0, 0))) for heads in ((1, 0, 0), (0, 0, 1)))
        assert (alike, other) == (24 * 24 + 18, 2 * 24 * 24 + 18)
        with pytest.raises(InputError, match="units of this teacher's layers differ in size.*give student.scale"):
            scale_for_parameters(config, 10**6, 10**5)


def test_parameters_that_no_scale_gives():
    config = tiny_config()
    whole = count(tiny_teacher(config))
    floor = size_at(config, whole, 0.001).parameters
    with pytest.raises(InputError, match=rf"student.parameters: .* is below {floor:,}"):
        scale_for_parameters(config, whole, floor - 1)
    for parameters in (whole, 10 * whole):
        with pytest.raises(InputError, match=f"not below the teacher's {whole:,}"):
            scale_for_parameters(config, whole, parameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_reordering_moves_whole_units(family):
    config = tiny_config(family)
    state = state_of(tiny_teacher(config))
    importance = random_importance(layers_of(config), 7)
    order = order_units(importance)
    moved = reordered(state, layers_of(config), order)
    units = layers_of(config)[2]
    for kind, ranked in ((units.heads, order.heads[2]), (units.neurons, order.neurons[2])):
        for linear in kind.linears:
            before, after = state[f"{linear.path}.weight"], moved[f"{linear.path}.weight"]
            if linear.axis == 1:
                before, after = before.T, after.T
            elif linear.has_bias:  # as a further column
                before, after = (
                    torch.cat([weight, values[f"{linear.path}.bias"].unsqueeze(1)], dim=1)
                    for weight, values in ((before, state), (after, moved))
                )
            before, after = (it.unflatten(0, (linear.blocks, kind.count, linear.size)) for it in (before, after))
            for place, unit in enumerate(ranked):
                assert torch.equal(after[:, place], before[:, unit])
    scores = importance.heads[2][torch.tensor(order.heads[2])]
    assert torch.equal(scores, importance.heads[2].sort(descending=True).values)
    touched = {
        f"{linear.path}.{part}"
        for u in layers_of(config)
        for linear in u.linears
        for part in (("weight", "bias") if linear.axis == 0 else ("weight",))
    }
    untouched = state.keys() - touched - {name for u in layers_of(config) for name in u.heads.buffers}
    assert untouched
    assert all(moved[name] is state[name] for name in untouched)
