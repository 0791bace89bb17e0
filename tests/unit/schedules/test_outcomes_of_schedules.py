"""What schedules ask for and what they end with."""

import itertools

import numpy as np
import pytest
import torch
from schedule_runs import BASE, GRID, assistant_start, distances, outputs_of, ran, trained, with_distillation
from tiny_models import size_at
from tiny_runs import changed, search_of, weights_of
from tiny_schedules import along, minidisc

from raydisc.models.build import load_frozen
from raydisc.models.widths import Widths
from raydisc.schedules.minidisc import choose_path
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE
from raydisc.testing.tolerance import assert_near
from raydisc.tradeoff import Measured
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

pytestmark = pytest.mark.integration


# kd, takd, maxidisc


def test_kd_is_the_empty_path(search, storage):
    run = ran(along(search, ()), storage)
    [request] = run.distils
    outcome = run.outcome
    assert (outcome.path, outcome.initialisation, outcome.supernet) == ((), "teacher", None)
    assert outcome.own == (request.outputs, outcome.student)
    assert request.teacher == request.start
    assert request.teacher.artifact.kind == "importance"
    [finetuned] = [artifact for stage, artifact, _ in run.told.stages if stage.kind == "finetune"]
    assert request.outputs == outputs_of(run, Model(finetuned))
    assert outcome.student["scale"] == request.scale == STUDENT_SCALE
    parameters = request.importance["parameters"]
    config = read_weights(run.store, Model(request.importance)).config
    size = size_at(config, parameters, STUDENT_SCALE)
    assert outcome.student["parameters"] == size.parameters
    assert outcome.student["measured_scale"] == size.measured_scale
    assert outcome.student["steps"] == 7
    state = read_weights(run.store, Model(outcome.student))
    assert (sum(state.structure.heads), sum(state.structure.neurons)) == (3, 15)
    assert sum(tensor.numel() for tensor in state.state.values()) == size.parameters


@pytest.mark.parametrize("path", [(0.5,), (0.7, 0.4)])
def test_assistants_teach_and_start_the_next(search, storage, path):
    run = ran(along(search, path), storage)
    outcome = run.outcome
    assert (outcome.path, outcome.initialisation) == (path, "assistant")
    assert [request.scale for request in run.distils] == [*path, STUDENT_SCALE]
    assert [artifact["scale"] for artifact in trained(outcome)] == [*path, STUDENT_SCALE]
    for before, request in zip(trained(outcome), run.distils[1:], strict=False):
        assert request.teacher == request.start == Model(before)
        assert request.outputs == outputs_of(run, Model(before))
        assert before.key in request.promise(ONE_THREAD).inputs
    kinds = ["teacher_outputs", "distil"] * (1 + len(path))
    assert [artifact.kind for artifact in outcome.own] == kinds
    assert outcome.student == outcome.own[-1]


def test_assistants_teach_students_cut_from_the_teacher(search, storage):
    run = ran(along(with_distillation(search, initialisation="teacher"), (0.5,)), storage)
    assert run.outcome.initialisation == "teacher"
    first, second = run.distils
    assert first.start == second.start == Model(first.importance)
    assert second.teacher == Model(run.outcome.own[1])


def test_paths_share_what_they_begin_with(search, storage):
    ran(along(search, (0.7, 0.4)), storage)
    again = ran(along(search, (0.7, 0.5)), storage)
    assert again.told.computed.count("distil") <= 2
    # the teacher's outputs, the assistant and its outputs
    assert again.outcome.own[:3] == ran(along(search, (0.7, 0.4)), storage).outcome.own[:3]


def test_rows_seen_less_than_once_are_not_computed_ahead(search, storage):
    """In half an epoch the model above is run for the rows of the batches."""
    run = ran(along(with_distillation(search, epochs=0.5), (0.5,)), storage)
    assert [artifact.kind for artifact in run.outcome.own] == ["distil", "distil"]
    assert [request.outputs for request in run.distils] == [None, None]


# minidisc


def test_minidisc_trains_the_student_alone(mini):
    outcome, [request] = mini.outcome, mini.distils
    assert outcome.initialisation == "supernet"
    [once] = [request for request, _, _ in mini.told.stages if isinstance(request, OnceForAll)]
    assert outcome.own == (once.outputs, outcome.supernet, request.outputs, outcome.student)
    assert request.teacher == Model(outcome.supernet, outcome.path[0])
    assert request.start == Model(outcome.supernet)
    assert request.outputs == outputs_of(mini, request.teacher)
    assert mini.told.computed.count("distil") == 1


def test_the_supernet_holds_the_grid_down_to_the_student(mini):
    [once] = [request for request, _, _ in mini.told.stages if isinstance(request, OnceForAll)]
    rows = mini.outcome.supernet["candidates"]
    assert [row["scale"] for row in rows] == list(once.scales) == [*GRID, STUDENT_SCALE]  # 0.1 is below the student
    widths = [Widths(tuple(row["heads"]), tuple(row["neurons"])) for row in rows]
    assert all(large.contains(small) for large, small in itertools.combinations(widths, 2))
    config = read_weights(mini.store, Model(once.importance)).config
    for row in rows:
        size = size_at(config, once.importance["parameters"], row["scale"])
        assert (row["measured_scale"], row["parameters"]) == (size.measured_scale, size.parameters)
        assert 0 < row["flops_share"] < 1
        assert {"metric", "se", "flops"} <= set(row)
    assert [row["flops"] for row in rows] == sorted((row["flops"] for row in rows), reverse=True)
    assert len({row["metric"] for row in rows}) > 1
    assert once.lam is None
    assert mini.outcome.supernet["chosen_at"] is None
    assert mini.outcome.supernet["steps"] == mini.outcome.supernet["planned_steps"] == 7
    assert mini.outcome.supernet["outputs_flops"] == once.outputs.flops > 0


def test_what_is_said_of_a_candidate_is_what_its_model_does(mini):
    """Each candidate cut out of the finished supernet predicts what the artifact says and scores what it says."""
    supernet = mini.outcome.supernet
    data = mini.distils[0].data
    validation = read_split(mini.store, data, "validation")
    kept = read_table(mini.store, supernet, "predictions.arrow").to_pandas()
    assert len(kept) == 5 * len(validation)
    for row in supernet["candidates"]:
        weights = read_weights(mini.store, Model(supernet, row["scale"]))
        model = load_frozen(weights.config, weights.structure, weights.state)
        found = predict(model, validation, data["pad_id"], Pass(16))
        own = kept[kept["scale"] == row["scale"]]
        assert own["row"].tolist() == list(range(len(validation)))
        assert_near(np.stack(own["prediction"].to_list()), found)
        assert row["metric"] == pytest.approx(float((found.argmax(1) == validation.labels).mean()))


def test_no_weight_on_size_picks_the_best_and_a_huge_one_the_smallest(mini, search, storage):
    rows = [row for row in mini.outcome.supernet["candidates"] if row["scale"] > STUDENT_SCALE]
    best = max(rows, key=lambda row: (row["metric"], -row["scale"]))
    assert ran(minidisc(search, 0.0, 1, False), storage).outcome.path == (best["scale"],)
    assert ran(minidisc(search, 1000.0, 1, False), storage).outcome.path == (0.4,)


def scored(*pairs):
    return [Measured(scale, metric) for scale, metric in pairs]


CURVE = scored((0.9, 0.90), (0.7, 0.91), (0.5, 0.88), (0.4, 0.70), (0.25, 0.99), (0.1, 1.0))


@pytest.mark.parametrize(
    ("lam", "assistants", "path"),
    [
        (0.0, 1, (0.7,)),
        (0.2, 1, (0.5,)),
        (1000.0, 1, (0.4,)),
        (0.0, 2, (0.7, 0.5)),  # then the best below the first
        (0.0, 3, (0.7, 0.5, 0.4)),
        (0.2, 2, (0.5, 0.4)),
        (0.2, 3, (0.5, 0.4)),  # candidates run out
        (1000.0, 2, (0.4,)),
    ],
)
def test_several_assistants_are_chosen_one_after_the_other(lam, assistants, path):
    assert choose_path(CURVE, lam, assistants, STUDENT_SCALE) == path
    assert choose_path(CURVE[::-1], lam, assistants, STUDENT_SCALE) == path


def test_the_papers_figure_is_chosen_as_in_the_paper():
    """MRPC of arXiv 2205.14570, figure 1, where λ = 0.2 picks 0.2 (by 0.001 over 0.3)."""
    mrpc = scored((0.7, 0.915), (0.6, 0.913), (0.5, 0.913), (0.4, 0.899), (0.3, 0.889), (0.2, 0.870))
    assert choose_path(mrpc, 0.2, 1, 0.1) == (0.2,)


def test_two_assistants_are_a_longer_path(mini, search, storage):
    run = ran(minidisc(search, 0.0, 2, False), storage)
    outcome = run.outcome
    assert len(outcome.path) == 2
    assert outcome.path == choose_path(SupernetFacts.of(outcome.supernet).candidates, 0.0, 2, STUDENT_SCALE)
    assert outcome.path[0] > outcome.path[1] > STUDENT_SCALE
    assert [request.scale for request in run.distils] == [outcome.path[1], STUDENT_SCALE]
    assert run.distils[0].teacher == Model(outcome.supernet, outcome.path[0])
    assert run.distils[1].teacher == Model(trained(outcome)[1])
    assert all(request.start == Model(outcome.supernet) for request in run.distils)
    assert outcome.supernet == mini.outcome.supernet


def test_another_lambda_trains_nothing_but_perhaps_the_student(mini, search, storage):
    for lam in (0.0, 0.21, 1000.0):
        run = ran(minidisc(search, lam, 1, False), storage)
        assert run.told.computed in ([], ["distil"], ["teacher_outputs", "distil"])
        if run.outcome.path == mini.outcome.path:
            assert run.told.computed == []
            assert run.outcome.student == mini.outcome.student


def test_a_cached_run_is_a_fresh_run_bit_for_bit(mini, search, tmp_path):
    fresh = ran(minidisc(search_of(BASE), 0.2, 1, False), tmp_path)
    assert fresh.told.keys == mini.told.keys
    assert not any(found for _, _, found in fresh.told.stages)
    for mine, theirs in zip(trained(fresh.outcome), trained(mini.outcome), strict=True):
        assert weights_of(fresh.store, mine) == weights_of(mini.store, theirs)
        assert mine.blobs["model.safetensors"] == theirs.blobs["model.safetensors"]
        assert mine.facts == theirs.facts
        assert mine.cost.flops == theirs.cost.flops


def test_another_seed_is_another_student_of_the_same_teacher(search, storage, mini):
    other = type(search)(search.experiment, search.subject, STUDENT_SCALE, 1)
    run = ran(minidisc(other, 0.2, 1, False), storage)
    assert run.told.computed == ["once_for_all", "teacher_outputs", "distil"]
    assert weights_of(run.store, run.outcome.supernet) != weights_of(mini.store, mini.outcome.supernet)
    assert weights_of(run.store, run.outcome.student) != weights_of(mini.store, mini.outcome.student)


def test_a_new_grid_is_a_new_supernet_and_nothing_else_new(mini, search, storage):
    experiment = BASE.model_copy(update={"grid": changed(BASE.grid, scales=[0.8, 0.5])})
    run = ran(minidisc(type(search)(experiment, search.subject, STUDENT_SCALE, 0), 0.2, 1, False), storage)
    assert run.told.computed == ["once_for_all", "teacher_outputs", "distil"]


# the initial weights of the student and the model that it is distilled from


def test_the_student_is_cut_from_the_supernet(mini, search, storage):
    """With steps too small to move a weight the student is the supernet's own candidate."""
    run = ran(minidisc(with_distillation(search, lr=1e-12), 0.2, 1, False), storage)
    supernet = run.outcome.supernet
    still = distances(run.store, Model(run.outcome.student), Model(supernet, STUDENT_SCALE))
    assert max(still.values()) < 1e-7
    moved = distances(run.store, Model(mini.outcome.student), Model(supernet, STUDENT_SCALE))
    assert max(moved.values()) > 1e-3


def test_the_student_is_cut_from_the_teacher_where_that_is_asked_for(search, storage):
    run = ran(minidisc(with_distillation(search, lr=1e-12, initialisation="teacher"), 0.2, 1, False), storage)
    assert run.outcome.initialisation == "teacher"
    [request] = run.distils
    assert request.start == Model(request.importance)
    teacher = read_weights(run.store, Model(request.importance)).state
    student = read_weights(run.store, Model(run.outcome.student)).state
    for name, tensor in student.items():
        torch.testing.assert_close(tensor, teacher[name][tuple(map(slice, tensor.shape))], atol=1e-7, rtol=0)


def test_a_student_comes_nearer_to_its_teacher(search, storage):
    """The distance that distillation lowers is lower afterwards, and lowest to the model that it was distilled from."""
    longer = with_distillation(search, epochs=12.0)
    run = ran(along(longer, (0.5,)), storage)
    assistant, request = run.outcome.own[1], run.distils[1]
    validation = read_split(run.store, request.data, "validation")

    def logits(model):
        weights = read_weights(run.store, model)
        frozen = load_frozen(weights.config, weights.structure, weights.state)
        return predict(frozen, validation, 0, Pass(64))

    target = logits(Model(assistant))
    start = logits(Model(assistant_start(run, request)))
    distance = np.square(logits(Model(run.outcome.student)) - target).mean()
    assert distance < 0.5 * np.square(start - target).mean()
