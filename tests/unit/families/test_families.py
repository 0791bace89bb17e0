import pytest
import torch
from tiny_models import FAMILIES, state_of, tiny_batch, tiny_config, tiny_teacher
from tolerance import assert_near
from torch import nn
from transformers import GPT2Config

from raydisc.errors import InputError
from raydisc.families.registry import family_named, family_of, layers_of
from raydisc.families.units import PrunableLinear
from raydisc.models.widths import Widths, prunable_parameters

pytestmark = pytest.mark.numerics

LAYERS = ("bert.encoder.", "roberta.encoder.", "distilbert.transformer.", "model.layers.", "transformer.encoder.")


@pytest.fixture(params=FAMILIES)
def config(request):
    return tiny_config(request.param)


def test_units_are_those_of_the_real_modules(config):
    model = tiny_teacher(config)
    for units in layers_of(config):
        assert (units.heads.count, units.neurons.count, units.hidden_size) == (4, 20, 24)
        for kind in (units.heads, units.neurons):
            assert {linear.axis for linear in kind.outputs} == {0}
            assert (kind.input.axis, kind.input.blocks) == (1, 1)
            for prunable in kind.linears:
                linear = model.get_submodule(prunable.path)
                assert isinstance(linear, nn.Linear)
                shape = (prunable.kept(kind.count), 24)
                assert linear.weight.shape == (shape if prunable.axis == 0 else shape[::-1])
                assert (linear.bias is not None) == prunable.has_bias or prunable.axis == 1


def test_every_linear_of_every_layer_carries_units(config):
    model = tiny_teacher(config)
    carrying = {linear.path for units in layers_of(config) for linear in units.linears}
    in_layers = {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.startswith(LAYERS)
    }
    assert carrying == in_layers
    assert len(layers_of(config)) == config.num_hidden_layers


@pytest.mark.parametrize(("kind", "unit"), [("heads", 2), ("neurons", 7)])
def test_a_unit_speaks_through_its_columns_alone(config, kind, unit):
    """Zeroing what comes out of a unit equals zeroing the columns that read it: the rows and columns are one unit's."""
    batch = tiny_batch(config)
    units = getattr(layers_of(config)[1], kind)
    value, reader = units.outputs[-1], units.input

    def rows_of(linear):
        """Its rows in the last block: of a fused projection that is the value, of a fused gate the other factor."""
        start = (linear.blocks - 1) * linear.kept(units.count) // linear.blocks + unit * linear.size
        return slice(start, start + linear.size)

    silenced, unread = tiny_teacher(config), tiny_teacher(config)
    with torch.no_grad():
        # of a head the value alone makes its output; gelu(0) is 0, and so is a product with 0
        silenced.get_submodule(value.path).weight[rows_of(value)] = 0
        if value.has_bias:
            silenced.get_submodule(value.path).bias[rows_of(value)] = 0
        unread.get_submodule(reader.path).weight[:, rows_of(reader)] = 0
        outputs = [model(**batch.inputs()).logits for model in (tiny_teacher(config), silenced, unread)]
    assert_near(outputs[1], outputs[2])
    assert (outputs[0] - outputs[2]).abs().max() > 1e-3


def test_prunable_parameters_are_those_of_the_units(config):
    state = state_of(tiny_teacher(config))
    held = 0
    for units in layers_of(config):
        for linear in units.linears:
            held += state[f"{linear.path}.weight"].numel()
            held += state[f"{linear.path}.bias"].numel() if linear.axis == 0 and linear.has_bias else 0
    assert prunable_parameters(config, Widths.full(config)) == held


def test_full_widths_contain_all_others(config):
    full = Widths.full(config)
    assert full == Widths((4, 4, 4), (20, 20, 20))
    assert full.contains(Widths((4, 0, 4), (20, 19, 0)))
    assert not Widths((4, 0, 4), (20, 19, 0)).contains(full)
    assert not full.contains(Widths((5, 0, 0), (0, 0, 0)))
    assert not full.contains(Widths((0, 0, 0), (0, 21, 0)))


def test_unknown_family_is_refused_by_name():
    with pytest.raises(InputError, match="'gpt2'.*bert, distilbert, gemma, .*, qwen3, roberta, t5, xlm-roberta"):
        family_of(GPT2Config())
    with pytest.raises(InputError, match="'albert'"):
        family_named("albert")


def test_a_prefix_is_a_view_unless_the_weight_is_fused():
    weight, bias = torch.arange(48.0).view(12, 4), torch.arange(12.0)
    plain, fused = PrunableLinear("q", 0, 2), PrunableLinear("qkv", 0, 2, blocks=3)
    assert torch.equal(plain.first(weight, 4), weight[:8])
    assert plain.first(weight, 4).data_ptr() == plain.first(weight[:, :2], 4).data_ptr() == weight.data_ptr()
    assert torch.equal(PrunableLinear("o", 1, 2).first(weight, 1), weight[:, :2])
    assert torch.equal(fused.first(weight, 1), weight[[0, 1, 4, 5, 8, 9]])
    assert torch.equal(fused.first(bias, 1), bias[[0, 1, 4, 5, 8, 9]])
    assert fused.first(weight, 0).shape == (0, 4)
    assert fused.first(fused.first(weight, 0), 0).shape == (0, 4)
    assert (plain.kept(3), fused.kept(3)) == (6, 18)


def test_sorting_takes_a_unit_from_every_block():
    weight = torch.arange(12.0)
    plain, fused = PrunableLinear("q", 0, 3), PrunableLinear("qkv", 0, 2, blocks=3)
    assert fused.sorted(weight, (1, 0)).tolist() == [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9]
    assert plain.sorted(weight, (3, 0, 2, 1)).tolist() == [9, 10, 11, 0, 1, 2, 6, 7, 8, 3, 4, 5]
