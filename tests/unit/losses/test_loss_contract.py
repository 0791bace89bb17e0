"""The shipped contract of losses notices what is wrong with a loss."""

import pytest
import torch
from torch.nn import functional

from raydisc.losses.base import Loss
from raydisc.losses.hidden import HiddenMSE
from raydisc.losses.logits import LogitMSE, SoftCrossEntropy
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.inner import StudentSignal
from raydisc.signals.logits import Logits
from raydisc.testing.losses import LossContract


class WithoutReplacement(SoftCrossEntropy):
    in_regression = None


class UnknownSignal(LogitMSE):
    needs = frozenset({int})


class Mean(LogitMSE):
    def __call__(self, student, teacher, batch, temperature):
        return (student.logits - teacher.logits).square().mean(), 1.0


class OwnCount(LogitMSE):
    """Counts the labels of the share at hand."""

    def __call__(self, student, teacher, batch, temperature):
        return (student.logits - teacher.logits).square().sum(), student.logits.numel()


class WithPadding(Loss):
    needs = frozenset({HiddenStates})

    def __call__(self, student, teacher, batch, temperature):
        pairs = zip(student.hidden, teacher.hidden, strict=True)
        return sum((mine - theirs).square().sum() for mine, theirs in pairs), batch.mean_tokens


class AwayFromTheTeacher(LogitMSE):
    def __call__(self, student, teacher, batch, temperature):
        total, count = super().__call__(student, teacher, batch, temperature)
        return -total, count


class WithoutGradient(LogitMSE):
    def __call__(self, student, teacher, batch, temperature):
        total, count = super().__call__(student, teacher, batch, temperature)
        return total.detach() + 0 * student.logits.sum(), count


class HalfOfItsSignals(HiddenMSE):
    needs = frozenset({HiddenStates, Logits})


class OtherGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mine, theirs):
        ctx.save_for_backward(mine - theirs)
        return (mine - theirs).square().sum()

    @staticmethod
    def backward(ctx, upstream):
        return ctx.saved_tensors[0] * upstream, None  # without the factor of two


class WrongGradient(LogitMSE):
    def __call__(self, student, teacher, batch, temperature):
        return OtherGradient.apply(student.logits, teacher.logits), batch.mean_labels


class InPlace(LogitMSE):
    def __call__(self, student, teacher, batch, temperature):
        total, count = super().__call__(student, teacher, batch, temperature)
        teacher.hidden[0].zero_()
        return total, count


class Sizes(StudentSignal):
    field = "sizes"

    @classmethod
    def modules(cls, config):
        return ["sizes"]

    @classmethod
    def made_of(cls, computed, config):
        return computed[0]


class Small(Loss):
    """The squares of what the student has alone."""

    needs_of_student = frozenset({Sizes})

    def __call__(self, student, teacher, batch, temperature):
        return (student.inner["sizes"].square() * batch.attention_mask.unsqueeze(-1)).sum(), batch.mean_tokens


class SmallAsTheTeacher(Small):
    """Reads of the teacher what the student has alone."""

    def __call__(self, student, teacher, batch, temperature):
        total, count = super().__call__(student, teacher, batch, temperature)
        return total - teacher.inner["sizes"].sum(), count


class SmallInVain(Small):
    def __call__(self, student, teacher, batch, temperature):
        return student.logits.square().sum(), batch.mean_labels


class Vector(LogitMSE):
    def __call__(self, student, teacher, batch, temperature):
        return functional.mse_loss(student.logits, teacher.logits, reduction="none").sum(-1), batch.mean_labels


CONTRACT = LossContract()


@pytest.mark.parametrize(
    ("loss", "check"),
    [
        (WithoutReplacement(), CONTRACT.test_its_attributes_agree),
        (UnknownSignal(), CONTRACT.test_its_attributes_agree),
        (Vector(), CONTRACT.test_it_returns_a_sum_and_a_count),
        (Mean(), CONTRACT.test_two_batches_add_up_to_one),
        (OwnCount(), lambda loss: CONTRACT.test_workers_add_up_to_one(loss, 2)),
        (WithPadding(), CONTRACT.test_padding_does_not_count),
        (WithPadding(), CONTRACT.test_padding_has_no_gradient),
        (AwayFromTheTeacher(), CONTRACT.test_the_teacher_itself_is_the_minimum),
        (WithoutGradient(), CONTRACT.test_the_gradient_is_that_of_the_sum),
        (WrongGradient(), CONTRACT.test_the_gradient_is_that_of_the_sum),
        (HalfOfItsSignals(), CONTRACT.test_the_gradient_is_that_of_the_sum),
        (InPlace(), CONTRACT.test_it_leaves_the_outputs_alone),
        (SmallAsTheTeacher(), CONTRACT.test_it_returns_a_sum_and_a_count),
        (SmallInVain(), CONTRACT.test_the_gradient_is_that_of_the_sum),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Loss) else "",
)
def test_a_fault_is_noticed(loss, check):
    with pytest.raises((AssertionError, KeyError)):
        check(loss)


class TestLossesWithoutFaults(LossContract):
    @pytest.fixture(params=[LogitMSE, HiddenMSE, Small])
    def loss(self, request):
        return request.param()
