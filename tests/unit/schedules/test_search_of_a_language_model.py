"""A whole search on texts without labels: the student of a decoder that predicts the next token."""

import math

import numpy as np
import pytest
import torch
from tiny_runs import Told, executor, search_of, tiny_experiment
from tiny_schedules import minidisc

from raydisc.config.sections import (
    FineTuneConfig,
    OnceForAllConfig,
    ReviewsConfig,
    TaskConfig,
    TeacherConfig,
    TeacherOutputsConfig,
)
from raydisc.errors import InputError
from raydisc.signals.logits import LikeliestTokens
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.files import read_split, read_weights
from raydisc.stages.problem import inspect
from raydisc.tasks.kinds import task_kind
from raydisc.testing.runs import STUDENT_SCALE, TRAINING
from raydisc.tradeoff import choose

pytestmark = pytest.mark.integration

LLAMA = {
    "model_type": "llama", "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 6, "max_position_embeddings": 64, "initializer_range": 0.2,
    "tie_word_embeddings": True,
}  # fmt: skip


def language_experiment(source):
    return tiny_experiment(
        task=TaskConfig(
            reviews=ReviewsConfig(train=240, validation=80, test=60, clauses=1),
            metric="token_likelihood",
            max_length=12,
        ),
        teacher=TeacherConfig(architecture=LLAMA, finetune=FineTuneConfig(epochs=6.0, lr=5e-3, batch_size=16)),
        once_for_all=OnceForAllConfig(**TRAINING),
        teacher_outputs=TeacherOutputsConfig(source=source),
    )


def searched(source, folder):
    told = Told()
    run = executor(folder, told)
    outcome = run.run(minidisc(search_of(language_experiment(source)), 0.2, 1, False))
    stages = {request.kind: (request, artifact) for request, artifact, _ in told.stages}
    return outcome, stages, run.store


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return searched("memory", tmp_path_factory.mktemp("kept"))


def test_the_assistant_is_chosen_relative_to_the_teacher(kept):
    """m = exp(teacher loss - loss)."""
    outcome, stages, _ = kept
    teacher = stages["finetune"][1]["evaluations"][-1]["metric"]
    assert teacher > 3 / stages["tokenise"][1]["vocab_size"]  # a guess among all words has a third of it
    rows = stages["once_for_all"][1]["candidates"]
    assert {row["reference"] for row in rows} == {teacher}
    measured = SupernetFacts.of(stages["once_for_all"][1]).candidates
    assert outcome.path == (choose(measured, 0.2, above=STUDENT_SCALE).scale,)


def test_the_student_is_a_language_model_with_a_tied_head(kept):
    outcome, _, store = kept
    weights = read_weights(store, Model(outcome.student))
    assert weights.config.architectures == ["LlamaForCausalLM"]
    assert "lm_head.weight" not in weights.state
    assert outcome.student["evaluations"][-1]["metric"] > 1 / weights.config.vocab_size


def test_rows_are_packed_and_outputs_name_tokens(kept):
    _, stages, store = kept
    data, outputs = stages["tokenise"][1], stages["teacher_outputs"][1]
    split = read_split(store, data, "train")
    assert split.kind is task_kind("language")
    assert set(split.lengths) == {12}
    assert LikeliestTokens.file in outputs.blobs


def test_outputs_that_are_kept_and_those_of_each_step_teach_the_same(kept, tmp_path):
    """To the rounding of hidden states that are kept in half precision."""
    outcome, _, _ = kept
    other, stages, _ = searched("online", tmp_path)
    assert "teacher_outputs" not in stages
    losses = [-math.log(found.student["evaluations"][-1]["metric"]) for found in (outcome, other)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_an_interrupted_student_ends_with_the_same_bits(kept, tmp_path):
    """Its checkpoint holds a tied head once."""
    outcome, _, store = kept

    class Killed(Exception):
        pass

    def kill(found):
        if found.step == 3 and found.stage.startswith("distil"):
            raise Killed

    with pytest.raises(Killed):
        executor(tmp_path, progress=kill, checkpoint_every_s=0.0).run(
            minidisc(search_of(language_experiment("memory")), 0.2, 1, False)
        )
    again = executor(tmp_path).run(minidisc(search_of(language_experiment("memory")), 0.2, 1, False))
    states = [
        read_weights(executor(place).store, Model(found.student)).state
        for place, found in ((store.root.parent, outcome), (tmp_path, again))
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert np.isfinite(again.student["evaluations"][-1]["metric"])


def test_a_loss_that_needs_all_logits_is_refused_before_anything_is_computed():
    experiment = language_experiment("memory")
    objective = experiment.distillation.model_copy(update={"losses": {"logit_mse": 1.0}})
    with pytest.raises(InputError, match=r"^distillation.losses: 'logit_mse' compares all logits, but in a language"):
        inspect(experiment.model_copy(update={"distillation": objective}))
