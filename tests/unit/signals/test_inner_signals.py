"""Signals from inside a model: what modules compute is learned from, kept or not, and planned."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_models import KINDS, tiny_config
from tiny_runs import tiny_experiment
from torch.nn import functional

from raydisc.config.sections import DistillationConfig, TeacherOutputsConfig
from raydisc.errors import InputError
from raydisc.families.registry import layers_of
from raydisc.losses import LOSSES
from raydisc.losses.base import Loss
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_frozen
from raydisc.models.forward import forward
from raydisc.models.widths import Widths
from raydisc.runtime.planning import forecast
from raydisc.schedules.base import Trial
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.signals.inner import InnerSignal, StudentSignal
from raydisc.signals.registry import SIGNALS
from raydisc.supernet.importance import random_importance
from raydisc.testing.losses import LossContract
from raydisc.testing.models import sorted_state, tiny_batch, tiny_teacher
from raydisc.testing.runs import STUDENT_SCALE, TRAINING, run_trial


class LastValues(InnerSignal):
    """The values of the last layer's heads, with zeros in place of heads that were pruned."""

    field = "last_values"

    @classmethod
    def modules(cls, config):
        return [layers_of(config)[-1].heads.outputs[-1].path]

    @classmethod
    def numbers(cls, config):
        heads = layers_of(config)[-1].heads
        return heads.count * heads.outputs[-1].size

    @classmethod
    def made_of(cls, computed, config):
        values = computed[0].chunk(layers_of(config)[-1].heads.outputs[-1].blocks, dim=-1)[-1]
        return functional.pad(values, (0, cls.numbers(config) - values.shape[-1]))


class ValueRelations(Loss):
    """The divergence of the relations of tokens by their values (MiniLM, arXiv 2002.10957)."""

    name = "value_relations"
    needs = frozenset({LastValues})

    def __call__(self, student, teacher, batch, temperature):
        real = batch.attention_mask.bool()
        mine, theirs = (self.relations(outputs.inner["last_values"], real) for outputs in (student, teacher))
        divergence = functional.kl_div(mine, theirs.to(mine.dtype), reduction="none", log_target=True)
        return divergence.masked_fill(~(real[:, :, None] & real[:, None, :]), 0.0).sum(), batch.mean_tokens

    @staticmethod
    def relations(values, real):
        scores = values @ values.transpose(1, 2) / values.shape[-1] ** 0.5
        return scores.masked_fill(~real[:, None, :], torch.finfo(scores.dtype).min).log_softmax(-1)


@pytest.fixture(autouse=True)
def registered():
    with SIGNALS.registering(LastValues), LOSSES.registering(ValueRelations):
        yield


class TestValueRelations(LossContract):
    @pytest.fixture
    def loss(self):
        return ValueRelations()


@pytest.mark.parametrize("family", KINDS)
def test_the_outputs_of_modules_are_those_of_the_forward(family):
    config = tiny_config(family)
    model, batch = tiny_teacher(config), tiny_batch(config)
    linear, seen = model.get_submodule(LastValues.modules(config)[0]), []
    handle = linear.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        found = forward(model, batch, (), inner=(LastValues,)).inner["last_values"]
    handle.remove()
    assert not linear._forward_hooks  # a model is left as it was
    wanted = seen[0].chunk(layers_of(config)[-1].heads.outputs[-1].blocks, dim=-1)[-1]
    assert torch.equal(found, wanted)
    assert found.shape == (*batch.input_ids.shape, LastValues.numbers(config))
    with torch.no_grad():
        assert not forward(model, batch.share(5, 6), (), inner=(LastValues,)).inner["last_values"].numel()


def test_heads_that_were_pruned_leave_zeros():
    config, batch = tiny_config("bert"), tiny_batch(tiny_config("bert"))
    teacher = tiny_teacher(config)
    state = sorted_state(teacher, config, random_importance(layers_of(config), 0))
    widths = Widths((4, 4, 1), (20, 20, 20))
    with torch.no_grad():
        values = [
            forward(load_frozen(config, it, it.cut(state, config)), batch, (), inner=(LastValues,)).inner["last_values"]
            for it in (Widths.full(config), widths)
        ]
    torch.testing.assert_close(values[1][..., :6], values[0][..., :6])
    assert not values[1][..., 6:].any()


@pytest.mark.integration
def test_a_search_learns_from_it_whether_it_is_kept_or_not(tmp_path):
    trial = Trial(Minidisc(MinidiscOptions()), STUDENT_SCALE, 0)
    weights = {}
    for source in ("memory", "online"):
        experiment = tiny_experiment(
            distillation=DistillationConfig(**TRAINING, losses={"value_relations": 1.0, "kl_forward": 1.0}),
            teacher_outputs=TeacherOutputsConfig(source=source),
        )
        ran = run_trial(experiment, trial, tmp_path)
        kept = [it for it in ran.stages if it[0].kind == "teacher_outputs"]
        assert bool(kept) == (source == "memory")
        assert all(stage.settings()["inner"] == ["last_values"] for stage, _ in kept)
        assert all("last_values.arrow" in outputs.blobs for _, outputs in kept)
        weights[source] = np.concatenate(
            [it.flatten() for it in load_file(ran.store.path(ran.outcome.student, "model.safetensors")).values()]
        )
        assert forecast(experiment, 1, "1GiB")["schedules"]
    assert np.corrcoef(weights["memory"], weights["online"])[0, 1] > 0.99  # rounded where it is kept


class Neurons(StudentSignal):
    """The outputs of the last layer's neurons, in models that have fewer of them than the teacher."""

    field = "neurons"

    @classmethod
    def modules(cls, config):
        return [layers_of(config)[-1].neurons.outputs[0].path]

    @classmethod
    def made_of(cls, computed, config):
        return computed[0]


class SmallNeurons(Loss):
    """The squares of what the student's neurons compute, as many as it has."""

    name = "small_neurons"
    needs_of_student = frozenset({Neurons})

    def __call__(self, student, teacher, batch, temperature):
        assert "neurons" not in teacher.inner
        squares = student.inner["neurons"].square() * batch.attention_mask.unsqueeze(-1)
        return squares.sum(), batch.mean_tokens * squares.shape[-1]


class Absent(StudentSignal):
    """A part that no model here has."""

    field = "absent"

    @classmethod
    def modules(cls, config):
        return []

    @classmethod
    def made_of(cls, computed, config):
        raise AssertionError("nothing is computed")


class OfExperts(Loss):
    """Reads the part that no model here has."""

    name = "of_experts"
    needs_of_student = frozenset({Absent})

    def __call__(self, student, teacher, batch, temperature):
        return student.inner["absent"].sum(), batch.mean_tokens


@pytest.fixture
def alone():
    with LOSSES.registering(SmallNeurons), LOSSES.registering(OfExperts):
        yield


class TestSmallNeurons(LossContract):
    @pytest.fixture
    def loss(self):
        return SmallNeurons()


@pytest.mark.integration
def test_what_the_student_has_alone_is_neither_computed_nor_kept_of_the_teacher(alone, tmp_path):
    """The teacher's outputs are those of an experiment without the loss; the candidates and the student learn by it."""
    trial, found = Trial(Minidisc(MinidiscOptions()), STUDENT_SCALE, 0), {}
    for weight in (0.0, 0.5):
        losses = {"kl_forward": 1.0, "small_neurons": weight, "of_experts": weight}
        experiment = tiny_experiment(distillation=DistillationConfig(**TRAINING, losses=losses))
        ran = run_trial(experiment, trial, tmp_path)
        found[weight] = ran, {stage.kind: artifact for stage, artifact in ran.stages}
        assert forecast(experiment, 1, "1GiB")["schedules"]
    (plain, without), (_, small) = found[0.0], found[0.5]
    assert without["teacher_outputs"] != small["teacher_outputs"], "those of the assistant"
    first = [next(it for stage, it in ran.stages if stage.kind == "teacher_outputs") for ran, _ in found.values()]
    assert first[0] == first[1]
    for kind in ("once_for_all", "distil"):
        weights = [plain.store.path(kinds[kind], "model.safetensors").read_bytes() for kinds in (without, small)]
        assert weights[0] != weights[1], kind


def test_a_loss_is_left_out_for_a_model_that_has_nothing_of_what_it_reads(alone):
    config, batch = tiny_config("bert"), tiny_batch(tiny_config("bert"))
    with torch.no_grad():
        outputs = forward(tiny_teacher(config), batch, (), inner=(Neurons, Absent))
    assert outputs.inner.keys() == {"neurons"}
    kind = batch.kind
    both, one = (WeightedLoss.of(weights, 1.0, kind) for weights in ({"label": 1.0, "of_experts": 1.0}, {"label": 1.0}))
    assert both(outputs, outputs, batch) == one(outputs, outputs, batch)
    with pytest.raises(InputError, match="of_experts reads what this model does not have"):
        WeightedLoss.of({"of_experts": 1.0}, 1.0, kind)(outputs, outputs, batch)


def test_other_losses_have_the_keys_that_they_had(tmp_path):
    trial = Trial(Minidisc(MinidiscOptions()), STUDENT_SCALE, 0)
    stages = [stage for stage, _ in run_trial(tiny_experiment(), trial, tmp_path).stages]
    assert not any("inner" in stage.settings() for stage in stages)
