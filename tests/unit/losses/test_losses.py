import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from raydisc.errors import InputError
from raydisc.losses import LOSSES
from raydisc.losses.labels import task_loss
from raydisc.losses.objective import WeightedLoss
from raydisc.models.forward import Outputs
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch
from raydisc.testing.losses import LossContract

CLASSIFICATION = task_kind("classification")
B, S, D, K, C = 6, 5, 4, 3, 3
LENGTHS = (5, 1, 3, 4, 2, 5)
CLASS_LOSSES = ("soft_cross_entropy", "kl_forward", "kl_reverse", "kl_symmetric", "jsd")


def example(seed=0, classes=C):
    """Student, teacher and batch of random numbers; float64, so that only the formula is compared."""
    generator = torch.Generator().manual_seed(seed)

    def outputs():
        hidden = tuple(torch.randn(B, S, D, generator=generator, dtype=torch.float64) for _ in range(K))
        return Outputs(torch.randn(B, classes, generator=generator, dtype=torch.float64) * 2, hidden)

    mask = (torch.arange(S) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    if classes == 1:
        labels = torch.randn(B, generator=generator, dtype=torch.float64)
    else:
        labels = torch.randint(classes, (B,), generator=generator)
    kind = task_kind("regression" if classes == 1 else "classification")
    return outputs(), outputs(), Batch(mask, mask, None, labels, np.arange(B), np.array(LENGTHS), kind)


def rows_of(outputs, batch, rows):
    part = Outputs(outputs.logits[rows], tuple(hidden[rows] for hidden in outputs.hidden))
    batch_part = Batch(
        batch.input_ids[rows],
        batch.attention_mask[rows],
        None,
        batch.labels[rows],
        batch.rows[rows],
        batch.lengths[rows],
        batch.kind,
    )
    return part, batch_part


def softened(logits, temperature):
    powers = [math.exp(float(value) / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def naive_hidden(student, teacher, distance):
    values = []
    for mine, theirs in zip(student.hidden, teacher.hidden, strict=True):
        for row in range(B):
            for token in range(LENGTHS[row]):
                values += distance(mine[row, token], theirs[row, token])
    return sum(values) / len(values)


def naive_classes(student, teacher, temperature, divergence):
    rows = [
        divergence(softened(teacher.logits[row], temperature), softened(student.logits[row], temperature))
        for row in range(B)
    ]
    return temperature**2 * sum(rows) / B


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def js(p, q):
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, middle) + kl(q, middle)) / 2


NAIVE = {
    "hidden_mse": lambda s, t, b, tau: naive_hidden(s, t, lambda x, y: ((x - y) ** 2).tolist()),
    "hidden_cosine": lambda s, t, b, tau: naive_hidden(s, t, lambda x, y: [1 - float(x @ y / (x.norm() * y.norm()))]),
    "soft_cross_entropy": lambda s, t, b, tau: naive_classes(
        s, t, tau, lambda p, q: -sum(a * math.log(c) for a, c in zip(p, q, strict=True))
    ),
    "kl_forward": lambda s, t, b, tau: naive_classes(s, t, tau, kl),
    "kl_reverse": lambda s, t, b, tau: naive_classes(s, t, tau, lambda p, q: kl(q, p)),
    "kl_symmetric": lambda s, t, b, tau: naive_classes(s, t, tau, lambda p, q: (kl(p, q) + kl(q, p)) / 2),
    "jsd": lambda s, t, b, tau: naive_classes(s, t, tau, js),
    "logit_mse": lambda s, t, b, tau: float((s.logits - t.logits).square().mean()),
    "label": lambda s, t, b, tau: -sum(
        math.log(softened(s.logits[row], 1)[b.labels[row]]) for row in range(B)
    ) / B,
}  # fmt: skip


class TestShippedLosses(LossContract):
    @pytest.fixture(params=LOSSES.names())
    def loss(self, request):
        return LOSSES.get(request.param)()


def test_every_shipped_loss_has_a_formula_to_compare_with():
    assert set(LOSSES.names()) == set(NAIVE)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", LOSSES.names())
def test_each_loss_is_its_formula(name, temperature):
    student, teacher, batch = example()
    total, count = LOSSES.get(name)()(student, teacher, batch, temperature)
    assert float(total) / count == pytest.approx(NAIVE[name](student, teacher, batch, temperature), rel=1e-6)
    assert WeightedLoss.of({name: 1.0}, temperature, CLASSIFICATION)(student, teacher, batch) == pytest.approx(
        NAIVE[name](student, teacher, batch, temperature), rel=1e-6
    )


@pytest.mark.parametrize("rows", [range(B), [0, 5]])
def test_the_gradient_of_hidden_states_is_their_difference(rows):
    """Of a batch with padding, and of the two rows that need none."""
    student, teacher, batch = example()
    teacher, _ = rows_of(teacher, batch, list(rows))
    student, batch = rows_of(student, batch, list(rows))
    assert (batch.real_tokens == batch.tokens) == (len(rows) == 2)
    for hidden in student.hidden:
        hidden.requires_grad_()
    total, count = LOSSES.get("hidden_mse")()(student, teacher, batch, 1.0)
    (total / count * 3).backward()
    for mine, theirs in zip(student.hidden, teacher.hidden, strict=True):
        expected = 3 * 2 * (mine - theirs).detach() * batch.attention_mask.unsqueeze(-1) / count
        torch.testing.assert_close(mine.grad, expected)


@pytest.mark.parametrize("name", ["hidden_mse", "hidden_cosine", "soft_cross_entropy", "kl_forward", "jsd"])
def test_half_precision_targets_are_read(name):
    student, teacher, batch = example()
    half = Outputs(teacher.logits, tuple(hidden.half() for hidden in teacher.hidden))
    loss = WeightedLoss.of({name: 1.0}, 1.0, CLASSIFICATION)
    assert float(loss(student, half, batch)) == pytest.approx(float(loss(student, teacher, batch)), rel=1e-2)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_the_square_of_the_temperature_keeps_gradients_in_size(name):
    """Hinton et al. 2015, section 2.1: at high temperature the gradient becomes that of matching logits, whatever τ."""
    sizes = []
    for temperature in (20.0, 200.0):
        student, teacher, batch = example()
        logits = student.logits.requires_grad_()
        WeightedLoss.of({name: 1.0}, temperature, CLASSIFICATION)(student, teacher, batch).backward()
        sizes.append(float(logits.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    assert sizes[0] > 1e-3


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_regression_matches_numbers_instead_of_classes(name):
    student, teacher, batch = example(classes=1)
    fitted = WeightedLoss.of({name: 0.5, "logit_mse": 0.25}, 4.0, task_kind("regression"))
    assert fitted.weights == (("logit_mse", 0.75),)
    expected = 0.75 * (student.logits - teacher.logits).square().mean()
    torch.testing.assert_close(fitted(student, teacher, batch), expected)


def test_labels_of_regression_are_squared_errors():
    student, teacher, batch = example(classes=1)
    total, count = LOSSES.get("label")()(student, teacher, batch, 1.0)
    assert float(total) / count == pytest.approx(float(((student.logits[:, 0] - batch.labels) ** 2).mean()))


def test_the_tasks_own_loss():
    student, _, batch = example()
    total, count = task_loss(student.logits, batch)
    assert float(total) / count == pytest.approx(float(functional.cross_entropy(student.logits, batch.labels)))


def test_weights_add_up_and_zeros_are_left_out():
    student, teacher, batch = example()
    loss = WeightedLoss.of({"label": 0.5, "hidden_mse": 2.0, "kl_forward": 0.0}, 1.0, CLASSIFICATION)
    assert dict(loss.weights) == {"label": 0.5, "hidden_mse": 2.0}
    expected = 0.5 * NAIVE["label"](student, teacher, batch, 1) + 2 * NAIVE["hidden_mse"](student, teacher, batch, 1)
    assert float(loss(student, teacher, batch)) == pytest.approx(expected, rel=1e-6)


def test_losses_that_are_none():
    with pytest.raises(
        InputError, match=r"unknown loss 'hiden_mse' in distillation.losses \(did you mean 'hidden_mse'\?\)"
    ):
        WeightedLoss.of({"hiden_mse": 1.0}, 1.0, CLASSIFICATION)
    with pytest.raises(InputError, match="no loss has a weight above zero"):
        WeightedLoss.of({"label": 0.0}, 1.0, CLASSIFICATION)
