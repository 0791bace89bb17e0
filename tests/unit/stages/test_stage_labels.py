"""The names of stages for people: stages that differ in what they start from have different names."""

import pytest

from raydisc.config.sections import DistillationConfig
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.distil import Distil

DATA, TEACHER = (Artifact(kind, kind, facts={}) for kind in ("tokenise", "importance"))
SUPERNET = Artifact("supernet", "once_for_all", facts={"scales": [0.5, 0.25]})
STUDENT = Artifact("student", "distil", facts={"scale": 0.25})
ASSISTANT = Artifact("assistant", "distil", facts={"scale": 0.5})


@pytest.mark.parametrize(
    ("teacher", "start", "label"),
    [
        (TEACHER, TEACHER, "teacher → 0.25"),
        (TEACHER, STUDENT, "teacher → 0.25, from 0.25"),
        (ASSISTANT, ASSISTANT, "0.5 → 0.25"),
        (ASSISTANT, TEACHER, "0.5 → 0.25"),
        (ASSISTANT, STUDENT, "0.5 → 0.25, from 0.25"),
        (ASSISTANT, SUPERNET, "0.5 → 0.25, from the supernet"),
    ],
)
def test_a_distillation_names_its_teacher_its_scale_and_an_unusual_start(teacher, start, label):
    stage = Distil(DATA, TEACHER, Model(teacher), None, Model(start), 0.25, DistillationConfig(), 0)
    assert stage.label() == label
