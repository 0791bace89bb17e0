"""The workers that a stage's key names: those of a trial, those of the teacher, or no workers."""

import pytest

from raydisc.config.sections import DistillationConfig, TaskConfig, TeacherConfig
from raydisc.models.precision import Arithmetic
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.distil import Distil
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.finetune import FineTune
from raydisc.stages.importance import Importance
from raydisc.stages.teacher_outputs import TeacherOutputs
from raydisc.stages.tokenise import Tokenise

DATA, TEACHER, IMPORTANCE, ASSISTANT = (
    Artifact(kind * 4, kind, ()) for kind in ("tokenise", "finetune", "importance", "distil")
)
SETTINGS = TeacherConfig(model="nowhere")


def distil():
    return Distil(DATA, IMPORTANCE, Model(IMPORTANCE), None, Model(IMPORTANCE), 0.1, DistillationConfig(), 0)


OF_TEACHER = {
    "finetune": FineTune(DATA, "weights", None, 0, SETTINGS),
    "importance": Importance(DATA, TEACHER, "gradient", 64, 0),
    "its outputs": TeacherOutputs(DATA, Model(TEACHER), (), None, 64),
    "its test": Evaluate(DATA, TEACHER),
}
OF_TRIALS = {
    "distil": distil(),
    "an assistant's outputs": TeacherOutputs(DATA, Model(ASSISTANT), (), None, 64),
    "a student's test": Evaluate(DATA, ASSISTANT),
}
ALONE, TRIAL = Arithmetic(1), Arithmetic(1, layout="1x2", teacher_layout=None)
APART = Arithmetic(1, layout=None, teacher_layout="1x4")


@pytest.mark.parametrize("name", OF_TEACHER)
def test_a_stage_of_the_teacher(name):
    request = OF_TEACHER[name]
    assert request.of_teacher
    assert request.key(TRIAL) == request.key(ALONE) != request.key(APART)


@pytest.mark.parametrize("name", OF_TRIALS)
def test_a_stage_of_a_trial(name):
    request = OF_TRIALS[name]
    assert not request.of_teacher
    assert request.key(APART) == request.key(ALONE) != request.key(TRIAL)


def test_texts_are_tokenised_by_one_whatever_the_arithmetic():
    request = Tokenise("rows", "tokenizer", TaskConfig(glue="mrpc"), SETTINGS)
    others = (APART, TRIAL, Arithmetic(2), Arithmetic(None), Arithmetic(None, "bfloat16"))
    assert {request.key(other) for other in others} == {request.key(ALONE)}
