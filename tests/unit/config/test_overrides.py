"""Settings that a command overrides."""

import pytest
from files import FROM_THE_ISSUE, GLUE, REVIEWS

from raydisc.config.experiment import (
    load_experiment,
)
from raydisc.config.sections import SandwichConfig


def test_a_part_of_the_sandwich_is_overridden(write):
    path = write(REVIEWS)
    assert load_experiment(path).once_for_all.sandwich == SandwichConfig()
    found = load_experiment(path, ["once_for_all.sandwich.middle=2", "once_for_all.sandwich.slices=true"])
    assert found.once_for_all.sandwich == SandwichConfig(middle=2, slices=True)
    assert load_experiment(path, ["once_for_all.sandwich=all"]).once_for_all.sandwich == "all"


def test_overrides_reach_every_section(write):
    experiment = load_experiment(
        write(FROM_THE_ISSUE),
        [
            "task.train=b.csv",
            "teacher.finetune.epochs=0.5",
            "grid.scales=[0.7, 0.2]",
            "once_for_all.patience=2",
            "once_for_all.choose_at=1",
        ],
    )
    assert experiment.task.train == "b.csv"
    assert experiment.task.validation == "data/validation.parquet"
    assert experiment.teacher.finetune.epochs == 0.5
    assert experiment.grid.scales == [0.7, 0.2], "a list is replaced whole"
    assert experiment.once_for_all.patience == 2


def test_the_last_override_wins(write):
    assert load_experiment(write(REVIEWS), ["seeds=[1]", "seeds=[2]"]).seeds == [2]


def test_a_section_can_be_taken_away_and_filled(write):
    assert load_experiment(write(FROM_THE_ISSUE), ["teacher.finetune=null"]).teacher.finetune is None
    refilled = load_experiment(write(FROM_THE_ISSUE), ["teacher.finetune=null", "teacher.finetune.epochs=1"])
    assert refilled.teacher.finetune.epochs == 1


def test_an_override_drops_the_alternatives(write):
    path = write(FROM_THE_ISSUE)
    student = load_experiment(path, ["student.parameters=2e6"]).student
    assert (student.scale, student.parameters) == (None, [2e6])
    assert load_experiment(path, ["task.reviews.train=100"]).task.reviews.train == 100
    assert load_experiment(path, ["task.glue=mrpc"]).task.train is None

    files = ["task.train=a.csv", "task.validation=b.csv", "task.text=[s]", "task.metric=f1"]
    for text in (REVIEWS, GLUE):
        task = load_experiment(write(text, "other.yaml"), files).task
        assert (task.train, task.glue, task.reviews) == ("a.csv", None, None)

    scratch = ["teacher.architecture={model_type: bert}", "teacher.tokenizer=t"]
    teacher = load_experiment(path, scratch).teacher
    assert (teacher.model, teacher.tokenizer) == (None, "t")


def test_an_override_beside_the_alternatives_drops_nothing(write):
    task = load_experiment(write(REVIEWS), ["task.metric=accuracy", "task.max_length=32"]).task
    assert task.reviews is not None
    assert task.metric == "accuracy"


def test_overriding_two_alternatives_is_refused(refusal):
    assert "but has 'scale' and 'parameters'" in refusal(REVIEWS, "student.scale=0.2", "student.parameters=2e6")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("student.scale", "--set student.scale should look like --set student.scale=0.1"),
        ("=3", "--set =3 should look like --set student.scale=0.1"),
        ("a..b=3", "--set a..b=3 should look like --set student.scale=0.1"),
        ("seeds.0=3", "--set seeds.0: seeds is a list: give the whole list, as in --set seeds=..."),
        (
            "student.scale.x=3",
            "--set student.scale.x: student.scale is a single value, as in --set student.scale=...",
        ),
        ("seeds=[1", "--set seeds=[1, line 1 is not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_overrides_that_cannot_be(refusal, override, sentence):
    assert refusal(REVIEWS + "seeds: [0]\n", override) == sentence


def test_an_override_leaves_the_file_alone(write):
    path = write(FROM_THE_ISSUE)
    load_experiment(path, ["student.scale=0.2"])
    assert path.read_text(encoding="utf-8") == FROM_THE_ISSUE
