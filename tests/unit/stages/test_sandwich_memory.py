"""A step of once-for-all holds the activations of one candidate at a time."""

import weakref

import pytest
import torch
from tiny_models import KINDS, tiny_config

from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_trainable
from raydisc.models.cost import ForwardCost
from raydisc.models.forward import forward
from raydisc.models.widths import Widths
from raydisc.stages.once_for_all.lessons import Lesson, sandwich_backward
from raydisc.stages.once_for_all.model import Supernet
from raydisc.supernet.candidates import candidate
from raydisc.supernet.elastic import make_elastic
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import importance_with_empty_layers, sorted_state, tiny_batch, tiny_teacher

POSITIONS = (0, 2, 3)
LOSS = WeightedLoss.of({"hidden_mse": 1.0, "soft_cross_entropy": 1.0}, 1.0, task_kind("classification"))


class Held:
    """A tensor that autograd keeps."""

    def __init__(self, tensor):
        self.tensor = tensor


class Meter:
    """Bytes that autograd keeps between forward and backward, weights aside."""

    def __init__(self, model):
        self.weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self.now = self.peak = self.end = 0

    def pack(self, tensor):
        held = Held(tensor)
        if tensor.untyped_storage().data_ptr() not in self.weights:
            self.now += tensor.nbytes
            self.peak = max(self.peak, self.now)
            weakref.finalize(held, self.free, tensor.nbytes)
        return held

    def free(self, size):
        self.now -= size


@pytest.mark.parametrize("family", KINDS)
def test_the_peak_is_that_of_the_largest_candidate_alone(family):
    config = tiny_config(family)
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    model = load_trainable(config, Widths.full(config), state)
    make_elastic(model, config)
    candidates = tuple(candidate(importance, scale) for scale in (0.9, 0.6, 0.4, 0.2))
    supernet = Supernet(model, config, candidates, ForwardCost.of(model, config))
    batch = tiny_batch(config)
    with torch.no_grad():
        wanted = forward(tiny_teacher(config, seed=1), batch, POSITIONS)

    def peak(chosen):
        meter = Meter(model)
        with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda held: held.tensor):
            sandwich_backward(supernet, [Lesson(one, batch, wanted) for one in chosen], LOSS, POSITIONS)
        assert meter.now == 0
        return meter.peak

    alone = [peak([one]) for one in candidates]
    assert sorted(alone, reverse=True) == alone
    assert alone[0] > 1.2 * alone[-1] > 0
    assert peak(candidates) == peak(candidates[::-1]) == alone[0]
