import pytest
import torch
from tiny_models import FAMILIES, importance_with_empty_layers, sorted_state, tiny_batch, tiny_config, tiny_teacher
from torch.utils.flop_counter import FlopCounterMode

from raydisc.models.build import load_trainable
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import candidate
from raydisc.supernet.elastic import make_elastic, select


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_training_step_are_what_torch_counts(family, scale):
    """Eager attention: torch's counter sees every product. The reduced widths have layers without units."""
    config = tiny_config(family, attention="eager")
    batch = tiny_batch(config, lengths=(11, 4, 8))
    importance = importance_with_empty_layers(config)
    widths = candidate(importance, scale).widths
    model = load_trainable(config, widths, widths.cut(sorted_state(tiny_teacher(config), config, importance), config))
    flops = ForwardCost.of(model, config).flops(widths, *batch.input_ids.shape)
    assert counted(lambda: model(**batch.inputs())) == flops
    assert counted(lambda: model(**batch.inputs()).logits.sum().backward()) == STEP_FORWARDS * flops


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slice_costs_what_its_extraction_costs(family):
    config = tiny_config(family, attention="eager")
    batch = tiny_batch(config)
    importance = importance_with_empty_layers(config)
    supernet = load_trainable(config, Widths.full(config), sorted_state(tiny_teacher(config), config, importance))
    make_elastic(supernet, config)
    cost = ForwardCost.of(supernet, config)
    spent = []
    for scale in (1.0, 0.5, 0.1):
        widths = candidate(importance, scale).widths
        select(supernet, config, widths)
        flops = cost.flops(widths, *batch.input_ids.shape)
        with torch.no_grad():
            assert counted(lambda: supernet(**batch.inputs())) == flops
        spent.append(flops)
    assert spent[0] > 1.7 * spent[1] > 4 * spent[2]


def test_cost_read_from_a_narrow_model_is_the_teachers():
    config = tiny_config("bert")
    narrow = Widths((1, 0, 2), (3, 0, 5))
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    assert ForwardCost.of(load_trainable(config, narrow, narrow.cut(state, config)), config) == ForwardCost.of(
        tiny_teacher(config), config
    )
