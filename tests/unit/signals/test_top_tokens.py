"""The likeliest tokens of a language model, and all others together, in the place of a whole vocabulary."""

import pytest
import torch
from torch.nn import functional

from raydisc.losses import LOSSES
from raydisc.losses.objective import WeightedLoss
from raydisc.models.forward import Outputs
from raydisc.signals.top_tokens import Grouping, grouped, likeliest
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch

PREDICTIONS, VOCABULARY = 6, 50


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(PREDICTIONS, VOCABULARY, generator=generator) for _ in range(2)]


def summed(name, student, teacher, over):
    """The sum of a loss over classes on grouped logits."""
    said, tokens = teacher
    return LOSSES.get(name)()(Outputs(grouped(student, tokens), ()), Outputs(said, ()), over, 1.0)[0]


def batch():
    labels = torch.arange(PREDICTIONS)
    lengths = torch.tensor([4, 4]).numpy()
    return Batch(
        torch.zeros(2, 4), torch.ones(2, 4), None, labels, rows=[0, 1], lengths=lengths, kind=task_kind("language")
    )


def test_probabilities_of_the_likeliest_and_of_the_rest(logits):
    said, tokens = likeliest(logits[0], Grouping(5))
    probabilities = logits[0].softmax(-1)
    assert torch.equal(tokens, probabilities.topk(5).indices)
    assert torch.allclose(said.exp()[:, :5], probabilities.gather(1, tokens))
    assert torch.allclose(said.exp().sum(-1), torch.ones(PREDICTIONS))


def test_all_but_one_token_lose_nothing(logits):
    teacher, student = logits
    said, tokens = likeliest(teacher, Grouping(VOCABULARY - 1))
    exact = functional.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    loss = summed("kl_forward", student, (said, tokens), batch())
    assert loss == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("name", ["kl_forward", "kl_reverse", "jsd"])
def test_divergences_of_groups_never_exceed_those_of_tokens_and_grow_with_their_number(name, logits):
    teacher, student = logits
    found = []
    for count in (1, 4, 16, VOCABULARY - 1):
        said, tokens = likeliest(teacher, Grouping(count))
        found.append(float(summed(name, student, (said, tokens), batch())))
    assert found == sorted(found)
    assert found[0] > 0


def test_a_weighted_loss_compares_groups_but_knows_the_label_among_all_tokens(logits):
    teacher, student = logits
    said, tokens = likeliest(teacher, Grouping(5))
    loss = WeightedLoss.of({"kl_forward": 1.0, "label": 1.0}, 1.0, task_kind("classification"))
    found = loss(Outputs(student, ()), Outputs(said, (), tokens), batch())
    kl = summed("kl_forward", student, (said, tokens), batch()) / PREDICTIONS
    assert found == pytest.approx(float(kl + functional.cross_entropy(student, batch().labels)), rel=1e-6)


def test_a_teacher_that_is_sure_leaves_finite_gradients():
    """Its likeliest token has all of the probability that float32 can tell."""
    teacher = torch.zeros(1, VOCABULARY)
    teacher[0, 3] = 200.0
    student = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1)).requires_grad_()
    said, tokens = likeliest(teacher, Grouping(4))
    one = Batch(
        torch.zeros(1, 2),
        torch.ones(1, 2),
        None,
        torch.tensor([3]),
        rows=[0],
        lengths=torch.tensor([2]).numpy(),
        kind=task_kind("language"),
    )
    for name in ("kl_forward", "kl_reverse", "soft_cross_entropy", "jsd"):
        value = summed(name, student, (said, tokens), one)
        [gradient] = torch.autograd.grad(value, student)
        assert torch.isfinite(value), name
        assert torch.isfinite(gradient).all(), name


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("name", ["kl_forward", "kl_reverse", "jsd", "soft_cross_entropy"])
def test_the_vocabulary_is_softened_before_it_is_grouped(name, temperature, logits):
    """By hand: probabilities of all tokens at the temperature, then the sum of those that are not named."""
    teacher, student = logits
    said, tokens = likeliest(teacher, Grouping(5, temperature))

    def by_hand(of):
        softened = (of / temperature).softmax(-1)
        named = softened.gather(1, tokens)
        return torch.cat([named, 1 - named.sum(-1, keepdim=True)], -1)

    p, q = by_hand(teacher), by_hand(student)
    m = (p + q) / 2
    expected = {
        "kl_forward": (p * (p / q).log()).sum(),
        "kl_reverse": (q * (q / p).log()).sum(),
        "jsd": ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2,
        "soft_cross_entropy": -(p * q.log()).sum(),
    }[name]
    loss = WeightedLoss.of({name: 1.0}, temperature, task_kind("language"))
    found = loss(Outputs(student, ()), Outputs(said, (), tokens), batch())
    assert found == pytest.approx(float(expected) * temperature**2 / PREDICTIONS, rel=2e-3)
