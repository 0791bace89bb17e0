"""What single stages leave behind, read back from their files."""

import json

import numpy as np
import pytest
import torch
from tiny_models import DECODERS, FAMILIES
from tiny_runs import Told, changed, executor, search_of, tiny_experiment
from tiny_schedules import minidisc
from transformers import AutoTokenizer
from variants import slow_but

from raydisc.config.experiment import OnceForAllConfig, ReviewsConfig, TaskConfig
from raydisc.errors import InputError
from raydisc.families.registry import layers_of
from raydisc.models.build import load_frozen
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.signals.cache import read_outputs
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.logits import Logits
from raydisc.stages.artifact import Artifact, Cost, Model
from raydisc.stages.files import read_split, read_table, read_weights, weight_blobs
from raydisc.stages.importance import read_candidate, read_scores
from raydisc.stages.store import ArtifactStore
from raydisc.stages.teacher_outputs import TeacherOutputs
from raydisc.stages.tokenise import copy_tokenizer
from raydisc.supernet.candidates import candidate, order_units, reordered
from raydisc.supernet.importance import gradient_importance, magnitude_importance, random_importance
from raydisc.tasks.base import load_task
from raydisc.tasks.batching import evaluation_batches, shorter_half
from raydisc.tasks.reviews import word_tokenizer
from raydisc.testing.runs import ARCHITECTURE, TRAINING
from raydisc.testing.tolerance import assert_near
from raydisc.training.batches import BatchSource
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict
from raydisc.training.progress import StepsDone

pytestmark = [pytest.mark.integration, pytest.mark.numerics]

BASE = tiny_experiment()


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


def prepared(storage, experiment):
    run = executor(storage)
    return run.run(search_of(experiment).prepare()), run.store


@pytest.fixture(scope="module")
def prepared_base(storage):
    return prepared(storage, BASE)


def model_of(store, model):
    weights = read_weights(store, model)
    return load_frozen(weights.config, weights.structure, weights.state)


def test_the_tokenised_task(prepared_base, tmp_path):
    ready, store = prepared_base
    data, task = ready.data, load_task(BASE.task)
    assert data["rows"] == {"train": 200, "validation": 60, "test": 60}
    assert (data["kind"], data["num_labels"], data["metric"]) == ("classification", 3, "accuracy")
    assert data["classes"] == list(task.classes)
    for name, table in task.splits.items():
        split = read_split(store, data, name)
        expected = [word_tokenizer()(text)["input_ids"] for text in table.column("text_0").to_pylist()]
        assert split.lengths.tolist() == [len(ids) for ids in expected]
        assert split.labels.tolist() == table.column("label").to_pylist()
        batch = split.batch(np.arange(3), data["pad_id"])
        assert [
            ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
        ] == expected[:3]
        assert data["tokens"][name] == sum(split.lengths)
    copy_tokenizer(store, data, tmp_path)
    assert (
        AutoTokenizer.from_pretrained(tmp_path)("the food was good")["input_ids"]
        == word_tokenizer()("the food was good")["input_ids"]
    )


def test_the_teacher_learned_something(prepared_base):
    ready, store = prepared_base
    data, [found] = ready.data, ready.finetuned["evaluations"]
    validation = read_split(store, data, "validation")
    logits = predict(model_of(store, Model(ready.finetuned)), validation, 0, Pass(64))
    assert found["metric"] == pytest.approx(float((logits.argmax(1) == validation.labels).mean()))
    assert found["metric"] > 0.5  # three classes, evenly
    assert found["split"] == "validation"
    kept = read_table(store, ready.finetuned, "predictions.arrow").to_pandas()
    assert_near(np.stack(kept["prediction"].to_list()), logits)


def test_the_sorted_teacher_computes_the_same(prepared_base):
    ready, store = prepared_base
    validation = read_split(store, ready.data, "validation")
    plain, ordered = (
        predict(model_of(store, model), validation, 0, Pass(64)) for model in (Model(ready.finetuned), ready.teacher)
    )
    assert_near(ordered, plain)
    weights = read_weights(store, Model(ready.finetuned))
    order = order_units(read_scores(store, ready.importance))
    assert order.heads != ((0, 1, 2, 3),) * 3
    expected = reordered(weights.state, layers_of(weights.config), order)
    for name, tensor in read_weights(store, ready.teacher).state.items():
        assert torch.equal(tensor, expected[name])


def test_a_curriculum_begins_with_short_rows_and_costs_less(storage):
    """To the last FLOP: the batches that the curriculum says, and validation once."""
    finetune = changed(BASE.teacher.finetune, curriculum=0.4, epochs=4.0)
    ready, store = prepared(storage, tiny_experiment(teacher=changed(BASE.teacher, finetune=finetune)))
    train, validation = (read_split(store, ready.data, split) for split in ("train", "validation"))
    short = shorter_half(train.lengths)
    curriculum = BatchSource(train, 32, 0, 0, torch.device("cpu"), lambda step: short if step < 11 else None)
    plain = BatchSource(train, 32, 0, 0, torch.device("cpu"))
    weights = read_weights(store, Model(ready.finetuned))
    cost = ForwardCost.of(model_of(store, Model(ready.finetuned)), weights.config)

    def trained(source):
        return STEP_FORWARDS * sum(cost.flops(weights.structure, *source.shape(step)) for step in range(28))

    evaluating = sum(
        cost.flops(weights.structure, len(rows), int(validation.lengths[rows].max()))
        for rows in evaluation_batches(validation.lengths, 64)
    )
    assert ready.finetuned.cost.flops == trained(curriculum) + evaluating
    assert trained(curriculum) < trained(plain)


@pytest.mark.parametrize("method", ["gradient", "magnitude", "random"])
def test_scores_are_kept_and_say_what_a_scale_keeps(storage, method):
    experiment = tiny_experiment(grid=changed(BASE.grid, importance=method))
    ready, store = prepared(storage, experiment)
    config = read_weights(store, Model(ready.finetuned)).config
    teacher = model_of(store, Model(ready.finetuned))
    if method == "gradient":
        train = read_split(store, ready.data, "train")
        rows = np.random.default_rng(0).permutation(200)[:64]
        expected = gradient_importance(teacher, layers_of(config), [train.batch(np.array([row]), 0) for row in rows])
    elif method == "magnitude":
        expected = magnitude_importance(teacher, layers_of(config))
    else:
        expected = random_importance(layers_of(config), 0)
    found = read_scores(store, ready.importance)
    for mine, theirs in zip((*found.heads, *found.neurons), (*expected.heads, *expected.neurons), strict=True):
        assert_near(mine, theirs)
    order = order_units(found)
    written = json.loads(store.blob(ready.importance, "order.json").tobytes())
    assert written == {"heads": [list(row) for row in order.heads], "neurons": [list(row) for row in order.neurons]}
    assert read_candidate(store, ready.importance, 0.5) == candidate(found, 0.5)
    assert (ready.importance.cost.flops > 0) == (method == "gradient")


def test_teacher_outputs_are_the_teachers(prepared_base):
    ready, store = prepared_base
    train = read_split(store, ready.data, "train")
    outputs = executor(store.root.parent).run(search_of(BASE).outputs_of(ready, ready.teacher))
    kept = read_outputs({signal.file: store.blob(outputs, signal.file) for signal in (Logits, HiddenStates)})
    expected = predict(model_of(store, Model(ready.finetuned)), train, 0, Pass(64))
    assert_near(kept[Logits].numpy(), expected)
    assert outputs["positions"] == [0, 1, 2, 3]
    assert kept[HiddenStates].shape == (train.lengths.sum(), 4, 24)
    assert kept[Logits].nbytes + kept[HiddenStates].nbytes == outputs["bytes"]
    assert (outputs["source"], outputs["dtype"]) == ("memory", "float16")
    assert 1e-5 < outputs["error"] < 2**-11


def outputs_of_altered_teacher(prepared_base, storage, key, factor):
    """The request for the outputs of the teacher with the first norm's weights multiplied."""
    ready, store = prepared_base
    weights = read_weights(store, Model(ready.finetuned))
    state = dict(weights.state)
    state["bert.embeddings.LayerNorm.weight"] = factor * state["bert.embeddings.LayerNorm.weight"]
    blobs = weight_blobs(weights.config, weights.structure, 1.0, state)
    artifact = ArtifactStore(storage).commit(Artifact(key * 64, "finetune"), {}, Cost(), blobs)
    return TeacherOutputs(ready.data, Model(artifact), (0, 1), "float16", 64)


def test_what_float16_cannot_hold_is_kept_in_bfloat16(prepared_base, storage):
    ready, store = prepared_base
    loud = executor(storage).execute(outputs_of_altered_teacher(prepared_base, storage, "a", 1e6))
    assert loud["dtype"] == "bfloat16"
    assert 2**-11 < loud["error"] < 2**-8
    kept = read_outputs({HiddenStates.file: store.blob(loud, HiddenStates.file)})[HiddenStates]
    assert kept.dtype == torch.bfloat16
    assert 65504 < float(kept.abs().max()) < float("inf")
    # the first batch was computed in vain, and is paid for
    quiet = executor(storage).execute(outputs_of_altered_teacher(prepared_base, storage, "b", 1.0))
    assert quiet["dtype"] == "float16"
    assert 1.0 < loud.flops / quiet.flops < 1.6


def test_outputs_that_are_no_numbers_are_refused(prepared_base, storage):
    with pytest.raises(InputError, match="infinite or not a number"):
        executor(storage).execute(outputs_of_altered_teacher(prepared_base, storage, "c", float("nan")))


@pytest.mark.parametrize("family", slow_but(("bert", "mt5", "modernbert", "gemma3_text"), FAMILIES))
def test_every_family_goes_the_whole_way(tmp_path, family):
    shape = {"model_type": family, "max_position_embeddings": 66, "initializer_range": 0.2}
    if family == "distilbert":
        shape |= {"dim": 24, "hidden_dim": 20, "n_layers": 2, "n_heads": 4}
    else:
        shape |= {name: ARCHITECTURE[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")}
        shape |= {"num_hidden_layers": 2}
    if family in ("t5", "mt5"):
        shape = {"model_type": family, "d_model": 24, "d_ff": 20, "num_layers": 2, "num_heads": 4, "d_kv": 6}
    elif family == "qwen2":  # its configuration has no head size
        shape |= {"num_key_value_heads": 4}
    elif family in DECODERS:
        shape |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6}
    base = tiny_experiment(teacher=changed(BASE.teacher, architecture=shape))
    told = Told()
    run = executor(tmp_path, told)
    outcome = run.run(minidisc(search_of(base), 0.2, 1, False))
    assert told.computed == [
        "tokenise", "finetune", "importance", "teacher_outputs", "once_for_all", "teacher_outputs", "distil",
    ]  # fmt: skip
    weights = read_weights(run.store, Model(outcome.student))
    assert weights.config.model_type == family
    assert (sum(weights.structure.heads), sum(weights.structure.neurons)) == (2, 10)
    [supernet] = [artifact for request, artifact, _ in told.stages if request.kind == "once_for_all"]
    assert supernet["steps"] == 7


def test_regression_goes_the_whole_way(tmp_path):
    """Numbers for labels: squared errors, one output, and a correlation to judge by."""
    splits = load_task(TaskConfig(reviews=ReviewsConfig(train=200, validation=60, test=60, clauses=1))).splits
    for name, table in splits.items():
        frame = table.to_pandas()
        frame["label"] = frame["label"].map({0: -1.5, 1: 0.25, 2: 1.75})
        frame.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    word_tokenizer().save_pretrained(tmp_path / "words")
    files = {name: str(tmp_path / f"{name}.jsonl") for name in splits}
    base = tiny_experiment(
        task=TaskConfig(**files, text=["text_0"], metric="pearson_spearman", max_length=64),
        teacher=changed(BASE.teacher, tokenizer=str(tmp_path / "words")),
        once_for_all=OnceForAllConfig(**TRAINING),
    )
    told, losses = Told(), []

    def progress(found):
        if found.stage == "finetune" and isinstance(found.event, StepsDone) and found.event.loss is not None:
            losses.append(found.event.loss)

    run = executor(tmp_path / "storage", told, progress)
    outcome = run.run(minidisc(search_of(base), 0.2, 1, True))
    [data] = [artifact for request, artifact, _ in told.stages if request.kind == "tokenise"]
    [supernet] = [artifact for request, artifact, _ in told.stages if request.kind == "once_for_all"]
    assert supernet["chosen_at"] == supernet["steps"]
    assert [request.kind for request, _, _ in told.stages].count("finalist") == 1
    assert (data["kind"], data["num_labels"], data["classes"]) == ("regression", 1, [])
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert read_weights(run.store, Model(outcome.student)).state["classifier.weight"].shape == (1, 24)
    kept = read_table(run.store, outcome.student, "predictions.arrow").to_pandas()
    assert set(kept["label"]) == {-1.5, 0.25, 1.75}
    assert kept["prediction"].map(len).eq(1).all()
