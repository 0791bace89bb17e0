"""Losses from outside raydisc, registered in Python: checked by the contract, named by an experiment, trained with."""

import doctest

import pytest
from tiny_runs import executor, search_of, tiny_experiment

import raydisc.losses.base
import raydisc.losses.layer_mapping
from raydisc.config.experiment import DistillationConfig, TeacherOutputsConfig
from raydisc.errors import InputError
from raydisc.losses import LOSSES
from raydisc.losses.base import Loss
from raydisc.losses.objective import signals_needed
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.logits import Logits
from raydisc.stages.objective import Objective
from raydisc.stages.targets import positions
from raydisc.testing.losses import LossContract
from raydisc.testing.runs import STUDENT_SCALE, TRAINING


class TokenDistance(Loss):
    """The mean absolute difference of hidden states; its name does not say that it needs them."""

    name = "token_distance"
    needs = frozenset({HiddenStates})

    def __call__(self, student, teacher, batch, temperature):
        mask = batch.attention_mask.unsqueeze(-1)
        pairs = zip(student.hidden, teacher.hidden, strict=True)
        total = sum(((mine - theirs).abs() * mask).sum() for mine, theirs in pairs)
        return total, batch.mean_tokens * len(student.hidden) * student.hidden[0].shape[-1]


class HiddenInLogits(Loss):
    """A loss of logits whose name sounds like one of hidden states."""

    name = "hidden_in_logits"
    needs = frozenset({Logits})

    def __call__(self, student, teacher, batch, temperature):
        return (student.logits - teacher.logits).abs().sum(), batch.mean_labels


@pytest.fixture(params=[TokenDistance, HiddenInLogits])
def loss_class(request):
    with LOSSES.registering(request.param) as registered:
        yield registered


def distillation(loss_class, epochs=1.0):
    return DistillationConfig(**TRAINING | {"epochs": epochs}, losses={loss_class.name: 1.0})


def test_only_what_a_loss_needs_is_matched(loss_class):
    matched = positions(Objective.of(distillation(loss_class)), 3)
    assert matched == (((0, 1, 2, 3),) * 2 if loss_class is TokenDistance else ((), ()))
    assert signals_needed({loss_class.name: 1.0, "hidden_mse": 0.0}) == loss_class.needs


def test_a_name_is_known_as_long_as_its_loss_is_registered():
    with pytest.raises(ValueError, match="unknown loss 'token_distance'"):
        distillation(TokenDistance)
    with LOSSES.registering(TokenDistance), pytest.raises(ValueError, match="did you mean 'token_distance'"):
        DistillationConfig(losses={"token_distanc": 1.0})
    with pytest.raises(InputError, match="unknown loss 'token_distance' in distillation.losses"):
        signals_needed({"token_distance": 1.0})


@pytest.mark.integration
@pytest.mark.parametrize("source", ["memory", "online"])
def test_a_student_is_trained_with_it(tmp_path, loss_class, source):
    """Longer training brings the loss down, whether the teacher's outputs are kept or computed in every step."""
    reached = []
    for epochs in (1.0, 6.0):
        seen = []
        outputs_of = TeacherOutputsConfig(source=source)
        experiment = tiny_experiment(distillation=distillation(loss_class, epochs), teacher_outputs=outputs_of)
        run, search = executor(tmp_path, progress=seen.append), search_of(experiment)
        ready = run.run(search.prepare())
        student = run.run(search.distil(ready, ready.teacher, ready.teacher, STUDENT_SCALE))
        outputs = run.run(search.outputs_of(ready, ready.teacher))
        assert (outputs is None) == (source == "online")
        assert outputs is None or outputs["positions"] == ([0, 1, 2, 3] if loss_class is TokenDistance else [])
        assert student["steps"] == round(epochs * 7)
        reached.append([loss for found in seen if (loss := getattr(found.event, "loss", None)) is not None][-1])
    assert reached[1] < reached[0]


class TestLossesOfOthers(LossContract):
    @pytest.fixture
    def loss(self, loss_class):
        return loss_class()


@pytest.mark.parametrize("module", [raydisc.losses.base, raydisc.losses.layer_mapping], ids=lambda it: it.__name__)
def test_the_examples_of_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
