"""One step of once-for-all: the gradients of several candidates add up in one set of weights."""

import copy

import numpy as np
import pytest
import torch
from tiny_models import KINDS, tiny_config

from raydisc.config.sections import SandwichConfig
from raydisc.families.registry import layers_of
from raydisc.losses import LOSSES
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_frozen, load_trainable
from raydisc.models.cost import ForwardCost
from raydisc.models.forward import forward
from raydisc.models.widths import Widths
from raydisc.stages.once_for_all.lessons import Lesson, sandwich_backward
from raydisc.stages.once_for_all.model import Supernet
from raydisc.supernet.candidates import candidate
from raydisc.supernet.elastic import make_elastic
from raydisc.supernet.sandwich import sandwich
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import (
    gradients_of,
    importance_with_empty_layers,
    sorted_state,
    tiny_batch,
    tiny_split,
    tiny_teacher,
)
from raydisc.testing.tolerance import assert_all_near, assert_near

pytestmark = pytest.mark.numerics

POSITIONS = (0, 2, 3)
LOSS = WeightedLoss.of({"hidden_mse": 1.0, "soft_cross_entropy": 0.5, "label": 0.25}, 2.0, task_kind("classification"))


def supernet_of(config, state, importance):
    model = load_trainable(config, Widths.full(config), state).eval()
    make_elastic(model, config)
    candidates = tuple(candidate(importance, scale) for scale in (0.9, 0.6, 0.4, 0.2))
    return Supernet(model, config, candidates, ForwardCost.of(model, config))


def lessons_of(config, rule, candidates):
    """The lessons of a step on a batch of seven rows, each share of it cut by hand, and the rows of each."""
    teacher, lengths = tiny_teacher(config, seed=1), (9, 3, 6, 1, 7, 4, 2)
    split = tiny_split(lengths, config.num_labels, types=config.model_type == "bert")
    lessons = []
    for share in sandwich(candidates, rule, dict.fromkeys((0.9, 0.6, 0.4, 0.2), 1.0), 0, 0):
        batch = split.batch(np.arange(7)[share.rows], config.pad_token_id)
        with torch.no_grad():
            lessons.append(Lesson(share.candidate, batch, forward(teacher, batch, POSITIONS)))
    return lessons


RULES = {
    "all": ("all", 4),
    "one": (SandwichConfig(slices=False), 2),
    "with the largest": (SandwichConfig(largest=True, slices=False), 3),
    "slices": (SandwichConfig(middle=2, slices=True), 3),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", KINDS)
def test_the_sandwich_gradient_is_the_sum_of_its_parts(family, rule):
    config = tiny_config(family)
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    supernet = supernet_of(config, state, importance)
    lessons = lessons_of(config, RULES[rule][0], supernet.candidates)
    total = sandwich_backward(supernet, lessons, LOSS, POSITIONS)

    sums = {name: torch.zeros_like(parameter) for name, parameter in supernet.model.named_parameters()}
    fused = {linear.path: linear.blocks for units in layers_of(config) for linear in units.linears}
    values = []
    for lesson in lessons:
        # every candidate as a model of its own on its own rows, its gradients put where its units are
        widths = lesson.candidate.structure
        dense = load_trainable(config, widths, widths.cut(state, config)).eval()
        value = LOSS(forward(dense, lesson.batch, POSITIONS), lesson.wanted, lesson.batch)
        value.backward()
        values.append(float(value.detach()))
        for name, parameter in dense.named_parameters():
            blocks = fused.get(name.rpartition(".")[0], 1)
            whole, part = (it.unflatten(0, (blocks, len(it) // blocks)) for it in (sums[name], parameter.grad))
            whole[tuple(slice(0, size) for size in part.shape)] += part
    assert not total.requires_grad
    assert float(total) == pytest.approx(sum(values), rel=1e-5)
    assert len(set(values)) == len(lessons) == RULES[rule][1]
    assert sorted(row for lesson in lessons for row in lesson.batch.rows) == (
        list(range(7)) if rule == "slices" else sorted([*range(7)] * len(lessons))
    )
    assert_all_near(gradients_of(supernet.model), sums)
    assert max(float(gradient.abs().max()) for gradient in sums.values()) > 0.01


@pytest.mark.parametrize("name", LOSSES.names())
def test_one_batch_of_eight_is_two_of_four_under_sgd(name):
    """Halves weighted by their counts: real tokens for hidden states, rows for the rest."""
    config = tiny_config()
    split = tiny_split([9, 1, 4, 12, 3, 3, 7, 2])
    start, teacher = tiny_teacher(config), tiny_teacher(config, seed=1)
    importance = importance_with_empty_layers(config)
    loss = LOSSES.get(name)()

    def updated(parts):
        """The weights after one step on the rows of all parts."""
        model = load_trainable(config, Widths.full(config), sorted_state(copy.deepcopy(start), config, importance))
        model.eval()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        halves = []
        for rows in parts:
            batch = split.batch(torch.tensor(rows).numpy(), 0)
            with torch.no_grad():
                wanted = forward(teacher, batch, POSITIONS)
            halves.append(loss(forward(model, batch, POSITIONS), wanted, batch, 2.0))
        count = sum(part[1] for part in halves)
        for part, _ in halves:
            (part / count).backward()
        optimiser.step()
        return {key: tensor.detach() for key, tensor in model.state_dict().items()}

    whole, halves = updated([range(8)]), updated([[3, 1, 6, 0], [2, 4, 5, 7]])
    before = sorted_state(start, config, importance)
    moved = 0.0
    assert_all_near(halves, whole)
    for key, tensor in whole.items():
        moved = max(moved, float((tensor - before[key]).abs().max()))
    assert moved > 1e-3


def test_a_frozen_candidate_is_the_slice_that_was_trained():
    """A model that is cut from the supernet computes what the supernet computed at that scale."""
    config = tiny_config()
    importance = importance_with_empty_layers(config)
    supernet = supernet_of(config, sorted_state(tiny_teacher(config), config, importance), importance)
    batch = tiny_batch(config)
    with torch.no_grad():
        wanted = forward(tiny_teacher(config, seed=1), batch, POSITIONS)
    sandwich_backward(supernet, [Lesson(each, batch, wanted) for each in supernet.candidates], LOSS, POSITIONS)
    torch.optim.SGD(supernet.model.parameters(), lr=0.01).step()
    for chosen in supernet.candidates:
        supernet.select(chosen)
        frozen = load_frozen(config, chosen.structure, chosen.structure.cut(supernet.model.state_dict(), config))
        with torch.no_grad():
            assert_near(forward(frozen, batch, ()).logits, forward(supernet.model, batch, ()).logits)
