import pytest
import torch
from tiny_models import FAMILIES, state_of, tiny_batch, tiny_config, tiny_teacher
from torch import nn
from transformers import GPT2Config

from raydisc.errors import InputError
from raydisc.models.families import family_named, family_of, layers_of
from raydisc.models.widths import Widths, count_units, prunable_parameters


@pytest.fixture(params=FAMILIES)
def config(request):
    return tiny_config(request.param)


def test_units_are_those_of_the_real_modules(config):
    model = tiny_teacher(config)
    for units in layers_of(config):
        attended = units.num_heads * units.head_size
        shapes = {path: (attended, units.hidden_size) for path in units.head_outputs}
        shapes[units.head_input] = (units.hidden_size, attended)
        shapes |= {path: (units.num_neurons, units.hidden_size) for path in units.neuron_outputs}
        shapes[units.neuron_input] = (units.hidden_size, units.num_neurons)
        assert (units.num_heads, units.head_size, units.num_neurons) == (4, 6, 20)
        assert {path for path, _, _ in units.slices()} == set(shapes)
        for path, shape in shapes.items():
            linear = model.get_submodule(path)
            assert isinstance(linear, nn.Linear)
            assert linear.weight.shape == shape


def test_every_linear_of_every_layer_carries_units(config):
    model = tiny_teacher(config)
    carrying = {path for units in layers_of(config) for path, _, _ in units.slices()}
    in_layers = {name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layer." in name}
    assert carrying == in_layers
    assert len(layers_of(config)) == config.num_hidden_layers


@pytest.mark.parametrize(("kind", "unit"), [("head", 2), ("neuron", 7)])
def test_a_unit_speaks_through_its_columns_alone(config, kind, unit):
    """Zeroing what comes out of a unit equals zeroing the columns that read it: the rows and columns are one unit's."""
    batch = tiny_batch(config)
    units = layers_of(config)[1]
    size = units.head_size if kind == "head" else 1
    rows = slice(unit * size, (unit + 1) * size)
    value = units.head_outputs[-1] if kind == "head" else units.neuron_outputs[0]
    reader = units.head_input if kind == "head" else units.neuron_input

    silenced, unread = tiny_teacher(config), tiny_teacher(config)
    with torch.no_grad():
        # of a head the value alone makes its output; gelu(0) is 0
        silenced.get_submodule(value).weight[rows] = 0
        silenced.get_submodule(value).bias[rows] = 0
        unread.get_submodule(reader).weight[:, rows] = 0
        outputs = [model(**batch.inputs()).logits for model in (tiny_teacher(config), silenced, unread)]
    torch.testing.assert_close(outputs[1], outputs[2], atol=1e-5, rtol=1e-5)
    assert (outputs[0] - outputs[2]).abs().max() > 1e-3


def test_prunable_parameters_are_those_of_the_units(config):
    state = state_of(tiny_teacher(config))
    heads, neurons = count_units(layers_of(config))
    assert (heads, neurons) == (12, 60)
    held = 0
    for units in layers_of(config):
        for path, axis, _ in units.slices():
            held += state[f"{path}.weight"].numel() + (state[f"{path}.bias"].numel() if axis == 0 else 0)
    assert prunable_parameters(config, heads, neurons) == held


def test_full_widths_contain_all_others(config):
    full = Widths.full(config)
    assert full == Widths((4, 4, 4), (20, 20, 20))
    assert full.contains(Widths((4, 0, 4), (20, 19, 0)))
    assert not Widths((4, 0, 4), (20, 19, 0)).contains(full)
    assert not full.contains(Widths((5, 0, 0), (0, 0, 0)))
    assert not full.contains(Widths((0, 0, 0), (0, 21, 0)))


def test_unknown_family_is_refused_by_name():
    with pytest.raises(InputError, match="'gpt2'.*bert, distilbert, roberta"):
        family_of(GPT2Config())
    with pytest.raises(InputError, match="'albert'"):
        family_named("albert")
