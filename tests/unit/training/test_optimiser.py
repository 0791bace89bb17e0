"""When to evaluate, the learning rate, and what the optimiser makes of gradients."""

from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, tiny_config
from torch import nn
from training import OPTIMISER, SETTINGS, batch_at, fetching, linear, quiet

from raydisc.testing.models import tiny_teacher
from raydisc.training.loop import even_steps, no_evaluation, train
from raydisc.training.optimiser import adamw, lr_at, undecayed


@pytest.mark.parametrize(
    ("total", "evaluations", "last", "steps"),
    [
        (12, 3, False, {4, 8}),
        (12, 3, True, {4, 8, 12}),
        (10, 3, True, {3, 7, 10}),
        (12, 1, False, set()),
        (12, 1, True, {12}),
        (3, 9, True, {1, 2, 3}),
        (3, 9, False, {1, 2}),
    ],
)
def test_when_to_evaluate(total, evaluations, last, steps):
    assert even_steps(total, evaluations, last) == steps


def test_the_learning_rate_climbs_and_falls():
    rates = [lr_at(step, 20, replace(OPTIMISER, lr=1.0, warmup=0.2)) for step in range(20)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[4:] == pytest.approx([1 - step / 16 for step in range(16)])
    assert min(rates) > 0
    assert lr_at(0, 20, replace(OPTIMISER, lr=1.0, warmup=0.0)) == 1.0
    assert lr_at(0, 1, replace(OPTIMISER, lr=1.0, warmup=0.1)) == 1.0
    assert [lr_at(step, 4, replace(OPTIMISER, lr=1.0, warmup=1.0)) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_the_loop_follows_the_learning_rate():
    """Adam's first steps are as long as the learning rate: with a steady gradient every step is."""
    model, places = linear(), []
    with torch.no_grad():
        model.weight.fill_(3.0)

    def step(batch, index):
        places.append(model.weight.detach().clone())
        model.weight.grad, model.bias.grad = torch.ones(1, 3), torch.zeros(1)
        return torch.tensor(1.0), 0.0

    settings = replace(SETTINGS, optimiser=replace(OPTIMISER, weight_decay=0.0))
    train(model, settings, fetching(batch_at, step), no_evaluation, quiet)
    places.append(model.weight.detach())
    moved = [float((a - b)[0, 0]) for a, b in zip(places, places[1:], strict=False)]
    expected = [lr_at(index, 12, settings.optimiser) for index in range(12)]
    assert moved == pytest.approx(expected, rel=1e-3)


def test_gradients_are_clipped_and_cleared():
    model, seen = linear(), []

    def step(batch, index):
        assert model.weight.grad is None
        model.weight.grad = torch.tensor([[30.0, 40.0, 0.0]])
        model.bias.grad = torch.zeros(1)
        return torch.tensor(1.0), 0.0

    original = torch.optim.AdamW.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.optim.AdamW,
            "step",
            lambda self, *args: (seen.append(model.weight.grad.clone()), original(self, *args)),
        )
        train(model, replace(SETTINGS, total_steps=1), fetching(batch_at, step), no_evaluation, quiet)
    torch.testing.assert_close(seen[0], torch.tensor([[0.6, 0.8, 0.0]]), atol=1e-4, rtol=1e-4)


def test_biases_and_norms_do_not_decay():
    config = tiny_config()
    model = tiny_teacher(config)
    for parameter in model.bert.embeddings.parameters():
        parameter.requires_grad_(False)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decaying, other = adamw(model, trainable, OPTIMISER).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decaying["weight_decay"] == 0.1
    assert other["weight_decay"] == 0.0
    assert all(names[id(p)].endswith("weight") and "LayerNorm" not in names[id(p)] for p in decaying["params"])
    assert all(names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in other["params"])
    trained = {names[id(p)] for group in (decaying, other) for p in group["params"]}
    assert trained == {names[id(parameter)] for parameter in trainable}
    assert adamw(model, trainable, replace(OPTIMISER, beta2=0.98)).param_groups[0]["betas"] == (0.9, 0.98)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_matrices_of_the_models_that_there_are_decay(family):
    model = tiny_teacher(tiny_config(family))
    spared = {id(parameter) for parameter in undecayed(model)}
    assert {id(parameter) for parameter in model.parameters() if parameter.ndim <= 1} == spared


class StackedNorm(nn.Module):
    """A norm of each of two experts."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 4))


class Experts(nn.Module):
    """Two experts whose weights, biases and norms lie in one tensor each."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(2, 4, 3)), nn.Parameter(torch.ones(2, 4))
        self.down_proj, self.down_proj_bias = nn.Parameter(torch.ones(2, 3, 4)), nn.Parameter(torch.ones(2, 3))
        self.norm, self.position_bias = StackedNorm(), nn.Embedding(2, 3)


def test_biases_and_norms_that_are_stacked_do_not_decay():
    model = Experts()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adamw(model, list(model.parameters()), OPTIMISER).step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"weight", "down_proj", "position_bias.weight"}
