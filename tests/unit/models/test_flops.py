from tiny_models import tiny_config

from raydisc.models.build import load_trainable
from raydisc.models.cost import ForwardCost
from raydisc.models.widths import Widths
from raydisc.testing.models import importance_with_empty_layers, sorted_state, tiny_teacher


def test_cost_read_from_a_narrow_model_is_the_teachers():
    config = tiny_config("bert")
    narrow = Widths((1, 0, 2), (3, 0, 5))
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    assert ForwardCost.of(load_trainable(config, narrow, narrow.cut(state, config)), config) == ForwardCost.of(
        tiny_teacher(config), config
    )
