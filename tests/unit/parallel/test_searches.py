"""Importance and whole searches by several workers: the same scores, order, assistant and metrics."""

import functools

import pytest
from searches import scored, searched, taken_in
from tiny_models import FAMILIES, tiny_config
from tiny_runs import NO_DROPOUT, changed, tiny_experiment
from transformers import AutoModel, AutoModelForSeq2SeqLM
from workers import run_workers

from raydisc.config.sections import FineTuneConfig
from raydisc.models.task_heads import suit
from raydisc.parallel.mesh import Layout
from raydisc.parallel.rank import ALONE
from raydisc.stages.store import ArtifactStore
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.reviews import word_tokenizer
from raydisc.tensors.views import tensor_views
from raydisc.testing.models import tiny_teacher
from raydisc.testing.runs import ARCHITECTURE, TRAINING
from raydisc.testing.tolerance import assert_all_near, assert_near, seen

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("layout", [Layout(2, 1), Layout(1, 2), Layout(2, 2)], ids=str)
def test_workers_score_and_sort_units_as_one_does(tmp_path, layout):
    (tmp_path / "alone").mkdir()
    (tmp_path / "together").mkdir()
    alone = scored(ALONE, tmp_path / "alone", FAMILIES)
    for found in run_workers(layout, scored, tmp_path / "meet", tmp_path / "together", FAMILIES):
        for family in FAMILIES:
            for scores, wanted in zip(found[family][:2], alone[family][:2], strict=True):
                assert_near(scores, wanted)
            assert found[family][2] == alone[family][2]
    for family in FAMILIES:
        written, wanted = ((tmp_path / place / f"{family}.safetensors") for place in ("together", "alone"))
        assert written.read_bytes() == wanted.read_bytes()


def experiment(metric):
    """Without dropout, whose draws differ with the shares; the assistant is chosen early."""
    base = tiny_experiment()
    teacher = changed(base.teacher, architecture=ARCHITECTURE | NO_DROPOUT)
    once_for_all = changed(base.once_for_all, epochs=2.0, choose_at=0.5)
    return tiny_experiment(task=changed(base.task, metric=metric), teacher=teacher, once_for_all=once_for_all)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    @functools.cache
    def alone(metric):
        storage = tmp_path_factory.mktemp("alone")
        return searched(ALONE, storage, experiment(metric)), ArtifactStore(storage)

    return alone


@pytest.mark.parametrize(
    ("layout", "metric"),
    [(Layout(2, 1), "accuracy"), (Layout(1, 2), "accuracy"), (Layout(2, 1), "token_accuracy")],
    ids=str,
)
def test_a_search_of_two_workers_is_that_of_one(alone, tmp_path, layout, metric):
    (_, wanted), store = alone(metric)
    together = ArtifactStore(tmp_path / "runs")
    [(_, found), (_, also)] = run_workers(layout, searched, tmp_path / "meet", tmp_path / "runs", experiment(metric))
    assert [artifact.key for artifact in found] == [artifact.key for artifact in also]
    assert [artifact.kind for artifact in found] == [artifact.kind for artifact in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.key == theirs.key
        assert mine.flops == theirs.flops
        for name in ("scale", "chosen_at", "steps", "parameters", "source"):
            assert mine.facts.get(name) == theirs.facts.get(name)
        for one, other in zip(mine.facts.get("evaluations", []), theirs.facts.get("evaluations", []), strict=True):
            assert one["metric"] == pytest.approx(other["metric"], abs=1e-6)
        if "model.safetensors" in theirs.blobs:
            weights, expected = (
                tensor_views(place.blob(it, "model.safetensors")) for place, it in ((together, mine), (store, theirs))
            )
            mine_seen, theirs_seen = (
                seen({name: tensor.numpy() for name, tensor in them.items()}) for them in (weights, expected)
            )
            assert_all_near(mine_seen, theirs_seen, 1e-3)


@pytest.mark.parametrize("family", ["bert", "mt5"])
@pytest.mark.parametrize("finetune", [None, FineTuneConfig(**TRAINING)], ids=["finished", "trained"])
def test_a_checkpoint_is_taken_in_by_two_workers_as_by_one(tmp_path, family, finetune):
    """Read by rows; the head of one that is to be trained is missing, and T5's prompt is made of the embedding."""
    tokenizer, folder = word_tokenizer(), tmp_path / "teacher"
    config = tiny_config(family)
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 64
    suit(config, task_kind("classification"), 3, 0)
    model = tiny_teacher(config)
    if finetune is not None:
        model = AutoModel.from_config(config) if family == "bert" else AutoModelForSeq2SeqLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    metric, wanted = taken_in(ALONE, tmp_path / "alone", folder, finetune)
    together = tmp_path / "together"
    for found_metric, found in run_workers(Layout(1, 2), taken_in, tmp_path / "meet", together, folder, finetune):
        assert found_metric == pytest.approx(metric, abs=1e-6)
        weights, expected = (
            tensor_views(ArtifactStore(place).blob(it, "model.safetensors"))
            for place, it in ((together, found), (tmp_path / "alone", wanted))
        )
        mine, theirs = (
            seen({name: tensor.numpy() for name, tensor in them.items() if tensor.is_floating_point()})
            for them in (weights, expected)
        )
        assert_all_near(mine, theirs, 1e-4)
