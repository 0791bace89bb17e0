"""The training loop on models small enough to check every step."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from training import SETTINGS, SPLIT, TOKENS, Killed, batch_at, fetching, killed_at, linear, pull, quiet

from raydisc.errors import NonFiniteLoss
from raydisc.losses.labels import task_loss
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_frozen, load_trainable
from raydisc.models.forward import forward
from raydisc.models.widths import Widths
from raydisc.signals.source import OnlineSignal
from raydisc.supernet.candidates import candidate
from raydisc.supernet.elastic import make_elastic, select
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import importance_with_empty_layers, sorted_state, tiny_teacher
from raydisc.testing.tolerance import assert_all_near, seen
from raydisc.training.checkpoint import load
from raydisc.training.loop import no_evaluation, train
from raydisc.training.progress import Evaluated, Evaluation, StepsDone

pytestmark = pytest.mark.numerics

# the two kinds of stages that train


def finetuning(initial_seed):
    """A model with dropout and a step on the labels."""
    model = tiny_teacher(tiny_config(dropout=0.2), seed=initial_seed)

    def step(batch, index):
        total, count = task_loss(forward(model, batch, ()).logits, batch)
        (total / count).backward()
        return (total / count).detach(), 1.0

    return model, step


def once_for_all(initial_seed):
    """A supernet with dropout and a step on three of its candidates."""
    config = tiny_config(dropout=0.2)
    importance = importance_with_empty_layers(config)
    full = Widths.full(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    teacher = OnlineSignal(load_frozen(config, full, state), (0, 2, 3), lambda batch: None)
    model = load_trainable(config, full, sorted_state(tiny_teacher(config, initial_seed), config, importance))
    make_elastic(model, config)
    candidates = tuple(candidate(importance, scale) for scale in (0.8, 0.6, 0.4, 0.2))
    loss = WeightedLoss.of({"hidden_mse": 1.0, "soft_cross_entropy": 1.0}, 1.0, task_kind("classification"))

    def step(batch, index):
        total = torch.zeros(())
        for chosen in (candidates[0], candidates[1 + index % 2], candidates[3]):
            select(model, config, chosen.structure)
            value = loss(forward(model, batch, (0, 2, 3)), teacher.outputs(batch), batch)
            value.backward()
            total += value.detach()
        return total, 1.0

    return model, step


def held_out(model):
    """An evaluation that looks at the model and draws nothing."""

    def evaluate(step):
        with torch.no_grad():
            logits = model(**SPLIT.batch(np.arange(8), 0).inputs()).logits
        return Evaluation(step, float(logits.mean()), se=0.1), 100.0

    return evaluate


@pytest.mark.parametrize("kill", [1, 7, 12])
@pytest.mark.parametrize("kind", [finetuning, once_for_all])
def test_a_killed_stage_goes_on_with_the_same_bits(tmp_path, kind, kill):
    settings = replace(SETTINGS, evaluate_at=frozenset({3, 6, 9, 12}), patience=9, tokens=TOKENS)
    model, step = kind(0)
    straight = train(model, settings, fetching(batch_at, step), held_out(model), quiet)

    settings = replace(settings, checkpoint_folder=tmp_path / "stage.partial")
    first, step = kind(0)
    with pytest.raises(Killed):
        train(first, settings, fetching(batch_at, step), held_out(first), killed_at(kill))
    kept = load(tmp_path / "stage.partial")
    assert (kept.step if kept else 0) == kill - 1
    # a new process has other weights until it reads the checkpoint, if there is one; only tokens that do not occur
    # do not concern it
    second, step = kind(1 if kept else 0)
    rest = np.setdiff1d(np.arange(40), TOKENS)
    assert rest.tolist() == [1, 2, 3, 4]
    with torch.no_grad():
        second.get_input_embeddings().weight[rest] = kind(0)[0].get_input_embeddings().weight[rest]
    torch.manual_seed(99)
    heard = []
    resumed = train(second, settings, fetching(batch_at, step), held_out(second), heard.append)

    evaluated = [event.number for event in heard if isinstance(event, Evaluated)]
    assert evaluated == list(range(max(1, (kill - 1) // 3), 5)), "first the last one of the checkpoint, if there is any"
    assert (resumed.step, resumed.flops, resumed.best) == (straight.step, straight.flops, straight.best)
    assert resumed.evaluations == straight.evaluations
    assert len(resumed.evaluations) == 4
    for name, tensor in model.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    changed = kind(0)[0].state_dict()
    assert sum(not torch.equal(tensor, changed[name]) for name, tensor in model.state_dict().items()) > 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_killed_stage_goes_on_with_the_same_dropout_on_a_gpu(tmp_path):
    """Its generator is the device's own; the sums of a GPU are only nearly the same."""

    def on_gpu(index):
        return batch_at(index).to("cuda")

    ends, settings = [], replace(SETTINGS, checkpoint_folder=tmp_path)
    for interrupted in (False, True):
        model, step = finetuning(0)
        if interrupted:
            with pytest.raises(Killed):
                train(model.cuda(), settings, fetching(on_gpu, step), no_evaluation, killed_at(7))
            assert load(tmp_path).step == 6
            model, step = finetuning(0)
            torch.manual_seed(99)
        train(model.cuda(), settings if interrupted else SETTINGS, fetching(on_gpu, step), no_evaluation, quiet)
        ends.append(model.cpu().state_dict())
    assert_all_near(seen(ends[1]), seen(ends[0]), 1e-3)


class Questions(TorchDispatchMode):
    """Notes when a number is read out of a tensor; on a GPU the host waits for all that was asked of it before."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.asked += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [finetuning, once_for_all])
def test_no_step_waits_for_the_device(kind):
    model, step = kind(0)
    with Questions() as questions:
        train(model, replace(SETTINGS, tokens=TOKENS), fetching(batch_at, step), no_evaluation, quiet)
        assert questions.asked == 0
        assert float(model.classifier.bias.detach()[0]) != 0
    assert questions.asked == 1


def test_the_seed_decides_the_dropout():
    ends = []
    for seed in (5, 5, 6):
        model, step = finetuning(0)
        train(model, replace(SETTINGS, seed=seed, total_steps=2), fetching(batch_at, step), no_evaluation, quiet)
        ends.append(model.state_dict()["classifier.weight"])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_killed_stage_remembers_the_seconds_it_took(tmp_path):
    settings = replace(SETTINGS, checkpoint_folder=tmp_path)

    def slow(event):
        time.sleep(0.004)
        if event.step == 9:
            raise Killed

    with pytest.raises(Killed):
        train(linear(), settings, fetching(batch_at, pull(linear())), no_evaluation, slow)
    first = load(tmp_path).wall_before
    assert first > 8 * 0.004
    model = linear()
    assert train(model, settings, fetching(batch_at, pull(model)), no_evaluation, quiet).wall_before == first
    assert load(tmp_path).wall_before > first
    assert load(tmp_path).cpu_before > 0


def test_a_loss_that_is_not_finite_names_stage_and_step(tmp_path):
    settings = replace(SETTINGS, checkpoint_folder=tmp_path)
    model = linear()
    good = pull(model)

    def step(batch, index):
        loss, flops = good(batch, index)
        return (loss * math.nan if index == 5 else loss), flops

    with pytest.raises(
        NonFiniteLoss, match=r"distil to 0\.3: the loss is nan at step 6 of 12; the checkpoint of step 5"
    ):
        train(model, settings, fetching(batch_at, step), no_evaluation, quiet)
    kept = load(tmp_path)
    assert kept.step == 5
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.part("model.").values())
    # it can be gone on from: with a step that is finite the stage ends
    again = linear(3)
    assert train(again, settings, fetching(batch_at, pull(again)), no_evaluation, quiet).step == 12


def test_a_gradient_that_is_not_finite_reaches_no_checkpoint(tmp_path):
    settings = replace(SETTINGS, checkpoint_folder=tmp_path)
    model = linear()
    good = pull(model)

    def step(batch, index):
        loss, flops = good(batch, index)
        if index == 3:
            model.weight.grad[0, 1] = math.inf
        return loss, flops

    with pytest.raises(NonFiniteLoss, match="gradient's norm is inf at step 4 of 12"):
        train(model, settings, fetching(batch_at, step), no_evaluation, quiet)
    assert load(tmp_path).step == 3
    assert torch.isfinite(load(tmp_path).part("model.")["weight"]).all()


@pytest.mark.parametrize("evaluate_at", [{9}, {4}, set()])
def test_a_gradient_that_is_not_finite_is_noticed_late_but_named_right(tmp_path, evaluate_at):
    """Nobody looks at step 4 unless it is evaluated; nothing is evaluated or written with what it left."""
    model, heard = linear(), []
    good = pull(model)

    def step(batch, index):
        loss, flops = good(batch, index)
        if index in {3, 5}:
            model.weight.grad.fill_(math.nan)
        return (loss * math.inf if index == 6 else loss), flops

    settings = replace(
        SETTINGS, evaluate_at=frozenset(evaluate_at), checkpoint_folder=tmp_path, checkpoint_every_s=60.0
    )
    with pytest.raises(NonFiniteLoss, match="gradient's norm is nan at step 4 of 12; no checkpoint"):
        train(model, settings, fetching(batch_at, step), no_evaluation, heard.append)
    assert [event.step for event in heard if event.loss is not None] == [1]
    assert heard[-1].step == min(evaluate_at, default=11) - 1
    assert load(tmp_path) is None


def test_without_checkpoints_the_message_says_so():
    model = linear()

    def endless(batch, index):
        (model.weight.sum() + model.bias.sum()).backward()
        return torch.tensor(math.inf), 0.0

    with pytest.raises(NonFiniteLoss, match="the loss is inf at step 1 of 12; no checkpoint had been written"):
        train(model, SETTINGS, fetching(batch_at, endless), no_evaluation, quiet)


@pytest.mark.parametrize(
    ("metrics", "patience", "stops", "best"),
    [
        ([0.1, 0.5, 0.4, 0.5, 0.9, 0.9], 2, 8, 4),  # an equal one does not count as better
        ([0.1, 0.5, 0.4, 0.6, 0.5, 0.2], 2, 12, 8),
        ([0.9, 0.5, 0.4, 0.6, 0.5, 0.2], 1, 4, 2),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 12, 12),
    ],
)
def test_patience_stops_and_gives_back_the_best_weights(metrics, patience, stops, best):
    settings = replace(SETTINGS, evaluate_at=frozenset(range(2, 13, 2)), patience=patience)
    model, weights = linear(), {}
    heard = []

    def evaluate(step):
        weights[step] = model.weight.detach().clone()
        assert not model.training
        return Evaluation(step, metrics[step // 2 - 1], se=0.1), 1000.0

    state = train(model, settings, fetching(batch_at, pull(model)), evaluate, heard.append)
    assert state.step == stops
    assert torch.equal(model.weight, weights[best])
    assert len({tuple(weight.flatten().tolist()) for weight in weights.values()}) == len(weights)
    assert state.flops == stops * 10.0 + len(weights) * 1000.0
    assert state.evaluations[0] == Evaluation(2, metrics[0], se=0.1)
    assert [found.step for found in state.evaluations] == list(weights)
    done = [event for event in heard if isinstance(event, StepsDone)]
    assert [event.step for event in done] == list(range(1, stops + 1))
    # every loss costs a wait for the device: only the first, every tenth after it, and where an evaluation waits too
    assert [event.step for event in done if event.loss is not None] == [
        step for step in range(1, stops + 1) if step % 10 == 1 or step % 2 == 0
    ]
    evaluated = [event for event in heard if isinstance(event, Evaluated)]
    assert [event.evaluation for event in evaluated] == state.evaluations
    assert [event.number for event in evaluated] == list(range(1, len(weights) + 1))


def test_without_patience_the_last_weights_stay():
    settings = replace(SETTINGS, evaluate_at=frozenset({4}))
    model, plain = linear(), linear()
    train(model, settings, fetching(batch_at, pull(model)), lambda step: (Evaluation(step, 0.5), 0.0), quiet)
    train(plain, SETTINGS, fetching(batch_at, pull(plain)), no_evaluation, quiet)
    assert torch.equal(model.weight, plain.weight)


def test_evaluation_is_off_where_nobody_asked():
    with pytest.raises(AssertionError, match="no evaluation was asked for"):
        no_evaluation(3)
