"""A whole search on tagged words: the student of a token classifier, its scores, its folder and what it labels."""

import json

import numpy as np
import pandas as pd
import pytest
from tiny_runs import Told, executor, search_of, tiny_experiment
from tiny_schedules import minidisc_trial

from raydisc.cli.predict import predict_file
from raydisc.config.sections import (
    FineTuneConfig,
    OnceForAllConfig,
    ReviewsConfig,
    TaskConfig,
    TeacherConfig,
    TeacherOutputsConfig,
)
from raydisc.errors import InputError
from raydisc.models.student_folder import load_student, read_card
from raydisc.runs.export import export_student
from raydisc.schedules.trials import steps_of
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.tasks.metrics import metric, standard_error
from raydisc.tasks.reviews import TAGS
from raydisc.testing.runs import ARCHITECTURE, STUDENT_SCALE, TRAINING
from raydisc.tradeoff import choose

pytestmark = pytest.mark.integration

T5 = {
    "model_type": "t5", "d_model": 24, "num_layers": 2, "num_heads": 4, "d_kv": 6, "d_ff": 20,
    "relative_attention_max_distance": 12, "feed_forward_proj": "gated-gelu",
}  # fmt: skip


def tagged_experiment(source, architecture=ARCHITECTURE, judge="span_f1"):
    return tiny_experiment(
        task=TaskConfig(
            reviews=ReviewsConfig(train=240, validation=80, test=60, clauses=2), metric=judge, max_length=48
        ),
        teacher=TeacherConfig(architecture=architecture, finetune=FineTuneConfig(epochs=12.0, lr=1e-2, batch_size=16)),
        once_for_all=OnceForAllConfig(**TRAINING),
        teacher_outputs=TeacherOutputsConfig(source=source),
    )


def searched(folder, experiment):
    told, trial = Told(), minidisc_trial(STUDENT_SCALE)
    run, search = executor(folder, told), search_of(experiment)
    outcome = run.run(steps_of(trial, experiment, search.subject))
    return outcome, {request.kind: artifact for request, artifact, _ in told.stages}, run.store, trial


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("kept"), tagged_experiment("memory"))


@pytest.fixture(scope="module")
def folder(kept, tmp_path_factory):
    outcome, stages, store, trial = kept
    return export_student(store, stages["tokenise"], trial, outcome, tmp_path_factory.mktemp("students"))


def test_the_teacher_learns_and_the_assistant_is_chosen(kept):
    outcome, stages, _, _ = kept
    assert (stages["tokenise"]["kind"], stages["tokenise"]["classes"]) == ("tokens", list(TAGS))
    assert stages["finetune"]["evaluations"][-1]["metric"] > 0.4
    rows = stages["once_for_all"]["candidates"]
    assert {row["reference"] for row in rows} == {1.0}
    measured = SupernetFacts.of(stages["once_for_all"]).candidates
    assert outcome.path == (choose(measured, 0.2, above=STUDENT_SCALE).scale,)


def test_outputs_are_kept_of_words_alone(kept):
    _, stages, store, _ = kept
    data, outputs = stages["tokenise"], stages["teacher_outputs"]
    split = read_split(store, data, "train")
    assert data["tags"]["train"] == split.label_counts.sum() == data["tokens"]["train"] - 2 * data["rows"]["train"]
    assert len(read_table(store, outputs, "logits.arrow")) == data["tags"]["train"]


def test_predictions_give_the_metric_and_its_error(kept):
    """The ledger's rows are counts, one of them for each row of the split."""
    outcome, _, store, _ = kept
    table = read_table(store, outcome.student, "predictions.arrow")
    counts, found = np.stack(table.column("prediction").to_pylist()), outcome.student["evaluations"][-1]
    assert counts.shape == (80, 3)
    assert (counts[:, 2] >= 1).all()  # every review has an opinion
    labels = np.array(table.column("label"))
    assert metric("span_f1").value(counts, labels) == found["metric"]
    assert standard_error(metric("span_f1"), counts, labels) == pytest.approx(found["se"], rel=1e-6)
    assert 0 < found["se"] < 0.2


def test_outputs_that_are_kept_and_those_of_each_step_teach_the_same(kept, tmp_path):
    """To the rounding of hidden states that are kept in half precision."""
    outcome, _, store, _ = kept
    other, stages, others, _ = searched(tmp_path, tagged_experiment("online"))
    assert "teacher_outputs" not in stages
    mine, theirs = (read_weights(at, Model(it.student)).state for at, it in ((store, outcome), (others, other)))
    assert mine.keys() == theirs.keys()
    apart = sum((tensor - theirs[name]).square().sum() for name, tensor in mine.items())
    assert apart < 1e-2**2 * sum(tensor.square().sum() for tensor in mine.values())


def test_the_student_knows_its_tags(folder):
    assert read_card(folder).kind == "tokens"
    config = load_student(folder).config
    assert [config.id2label[number] for number in range(len(TAGS))] == list(TAGS)
    assert config.architectures == ["BertForTokenClassification"]


def test_a_file_is_labelled_word_by_word(folder, tmp_path):
    rows = [["the", "food", "was", "very", "good"], ["i", "said", *["the", "room"] * 40], ["\u200b", "nice"]]
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    assert predict_file(folder, path, tmp_path / "labels.csv") == 3
    labels = pd.read_csv(tmp_path / "labels.csv", keep_default_na=False)
    assert labels["word"].tolist() == sum(rows, [])
    assert labels["row"].tolist() == [0] * 5 + [1] * 82 + [2] * 2
    assert set(labels["label"]) <= {*TAGS, ""}
    read = read_card(folder).max_length - 2
    assert (labels["label"][labels["row"] == 1] == "").tolist() == [place >= read for place in range(82)]
    assert set(labels["label"][labels["row"] == 0]) <= set(TAGS)


def test_whole_texts_and_glue_are_refused(folder, tmp_path):
    (tmp_path / "texts.csv").write_text("text\nthe food was good\n")
    with pytest.raises(InputError, match="holds string; a metric that judges tags needs lists of words"):
        predict_file(folder, tmp_path / "texts.csv", tmp_path / "labels.csv")
    with pytest.raises(InputError, match="GLUE has no tasks of tagged words"):
        predict_file(folder, None, tmp_path / "labels.csv", glue="sst2")


def test_enct5_is_searched_as_well(tmp_path):
    experiment = tagged_experiment("auto", T5, "token_accuracy")
    outcome, stages, store, _ = searched(tmp_path, experiment)
    assert stages["finetune"]["evaluations"][-1]["metric"] > 0.6
    assert read_weights(store, Model(outcome.student)).config.architectures == ["EncT5ForTokenClassification"]
    assert outcome.student["evaluations"][-1]["metric"] > 0.3
