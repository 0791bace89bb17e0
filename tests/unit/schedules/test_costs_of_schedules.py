"""What schedules cost, their controls, and early stops."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from schedule_runs import BASE, ran, with_distillation
from tiny_runs import Told, changed, executor
from tiny_schedules import along, kd_equal_compute, kd_from_supernet, minidisc

from raydisc.config.sections import SandwichConfig, TeacherOutputsConfig
from raydisc.models.build import load_frozen
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.widths import Widths
from raydisc.report.costs import StageGraph
from raydisc.stages.artifact import Model
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.sandwich import sandwich
from raydisc.tasks.batching import evaluation_batches
from raydisc.testing.runs import STUDENT_SCALE
from raydisc.testing.tolerance import assert_near
from raydisc.training.batches import BatchSource
from raydisc.training.inference import Pass
from raydisc.training.loop import even_steps
from raydisc.training.predictions import predict

pytestmark = pytest.mark.integration


def evaluation_flops(store, data, artifact):
    weights = read_weights(store, Model(artifact))
    cost = ForwardCost.of(load_frozen(weights.config, weights.structure, weights.state), weights.config)
    split = read_split(store, data, "validation")
    return (
        cost,
        weights.structure,
        sum(
            cost.flops(weights.structure, len(rows), int(split.lengths[rows].max()))
            for rows in evaluation_batches(split.lengths, 64)
        ),
    )


@pytest.mark.parametrize("source", ["memory", "online"])
def test_kd_with_equal_compute_spends_what_minidisc_spent(search, storage, source):
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(source=source)})
    search = type(search)(experiment, search.subject, STUDENT_SCALE, 0)
    run = ran(kd_equal_compute(search, 0.2, 1, False), storage)
    budget = sum(artifact.cost.flops for artifact in ran(minidisc(search, 0.2, 1, False), storage).outcome.own)
    student, request = run.outcome.student, run.distils[-1]
    assert (run.outcome.path, run.outcome.initialisation) == ((), "teacher")
    assert run.outcome.own == ((student,) if source == "online" else (request.outputs, student))
    assert request.teacher == request.start == Model(request.importance)
    assert request.budget_flops == budget

    cost, widths, _ = evaluation_flops(run.store, request.data, student)
    split = read_split(run.store, request.data, "train")
    longest = int(split.lengths.max())
    step = STEP_FORWARDS * cost.flops(widths, 32, longest)
    step += cost.flops(Widths((4, 4, 4), (20, 20, 20)), 32, longest) if source == "online" else 0
    spent = sum(artifact.cost.flops for artifact in run.outcome.own)
    assert budget - step <= spent <= budget
    assert student["steps"] > (14 if source == "online" else 40)
    supernet_and_student = run.told.stages[-1][1].inputs
    assert ran(minidisc(search, 0.2, 1, False), storage).outcome.supernet.key not in supernet_and_student


def test_equal_compute_never_stops_early_but_keeps_its_best_step_where_others_do(search, storage):
    """At a learning rate that ruins the student in the end, the best of its evaluations is kept."""
    impatient = with_distillation(search, patience=1, lr=0.03, epochs=4.0, warmup=0.9)
    run = ran(kd_equal_compute(impatient, 0.2, 1, False), storage)
    plain = ran(along(impatient, ()), storage)
    student = run.outcome.student
    assert student["steps"] > plain.outcome.student["steps"]
    *evaluations, kept = student["evaluations"]
    assert [it["step"] for it in evaluations] == sorted(even_steps(student["steps"], 4, last=True))
    assert kept["metric"] == max(it["metric"] for it in evaluations) > evaluations[-1]["metric"]
    budget = run.distils[-1].budget_flops
    spent = sum(artifact.flops for artifact in run.outcome.own)
    cost, structure, evaluating = evaluation_flops(run.store, run.distils[-1].data, student)
    assert budget - STEP_FORWARDS * cost.flops(structure, 32, 64) <= spent <= budget
    assert student.flops > 4 * evaluating


def test_the_cost_of_a_stage_is_its_steps_and_its_evaluation(search, storage):
    """To the last FLOP: three forwards for each batch, padding included, and one for each validation batch."""
    run = ran(along(search, ()), storage)
    [request] = run.distils
    cost, widths, evaluating = evaluation_flops(run.store, request.data, run.outcome.student)
    source = BatchSource(read_split(run.store, request.data, "train"), 32, 0, 0, torch.device("cpu"))
    batches = [source.batch(step).input_ids.shape for step in range(7)]
    assert [source.shape(step) for step in range(7)] == [tuple(shape) for shape in batches]
    assert sum(rows for rows, _ in batches) == 200
    expected = STEP_FORWARDS * sum(cost.flops(widths, *shape) for shape in batches) + evaluating
    assert run.outcome.student.cost.flops == expected


def test_a_candidate_is_run_once_over_every_training_row_for_its_outputs(mini):
    [request] = mini.distils
    cost, widths, evaluating = evaluation_flops(mini.store, request.data, mini.outcome.student)
    assistant = read_weights(mini.store, request.teacher).structure
    train = read_split(mini.store, request.data, "train")
    source = BatchSource(train, 32, 0, 0, torch.device("cpu"))
    training = STEP_FORWARDS * sum(cost.flops(widths, *source.shape(step)) for step in range(7))
    outputs = sum(
        cost.flops(assistant, len(rows), int(train.lengths[rows].max()))
        for rows in evaluation_batches(train.lengths, 64)
    )
    assert request.outputs.cost.flops == outputs
    assert mini.outcome.student.cost.flops == training + evaluating


def test_two_trials_share_an_assistants_outputs_and_each_counts_them(search, tmp_path):
    """Two students through one assistant: its outputs are computed once, and are in the cost of each path alone."""
    told = Told()
    run = executor(tmp_path, told)
    paths = [run.run(along(replace(search, student_scale=scale), (0.5,))) for scale in (0.4, STUDENT_SCALE)]
    assert told.computed.count("teacher_outputs") == 2  # the teacher's and the assistant's
    assert paths[0].own[:3] == paths[1].own[:3]
    [of_teacher, assistant, outputs], students = paths[0].own[:3], [path.student for path in paths]
    assert [artifact.kind for artifact in (of_teacher, assistant, outputs)] == [
        "teacher_outputs", "distil", "teacher_outputs",
    ]  # fmt: skip
    rows = {
        artifact.key: {
            "key": artifact.key, "kind": artifact.kind, "state": "finished", "inputs": artifact.inputs,
            "flops": artifact.flops, "device_seconds": 0, "wall_seconds": 0, "cpu_seconds": 0,
        }
        for _, artifact, _ in told.stages
    }  # fmt: skip
    graph = StageGraph(rows.values())
    before = sum(row["flops"] for row in rows.values() if row["kind"] == "importance") + of_teacher.flops
    for student in students:
        alone = before + assistant.flops + outputs.flops + student.flops
        assert graph.search_cost([student.key]).flops == pytest.approx(alone, rel=1e-12)
    together = before + assistant.flops + outputs.flops + sum(student.flops for student in students)
    assert graph.search_cost([student.key for student in students]).flops == pytest.approx(together, rel=1e-12)


SANDWICHES = {
    "all": ("all", 5),
    "one": (SandwichConfig(draw="uniform", slices=False), 2),
    "largest": (SandwichConfig(largest=True, draw="uniform", slices=False), 3),
    "slices": (SandwichConfig(middle=2, slices=True, draw="cost"), 3),
}


@pytest.mark.parametrize("named", SANDWICHES)
def test_once_for_all_costs_what_its_sandwiches_cost(search, storage, named):
    """Step by step: the candidates that the rule draws from this seed and step, and every candidate at the end."""
    rule, count = SANDWICHES[named]
    config = changed(BASE.once_for_all, sandwich=rule)
    experiment = BASE.model_copy(update={"once_for_all": config})
    run = ran(kd_from_supernet(type(search)(experiment, search.subject, STUDENT_SCALE, 4), 0.2, 1), storage)
    supernet, request = run.outcome.supernet, run.distils[-1]
    rows = supernet["candidates"]
    candidates = [Candidate(row["scale"], Widths(tuple(row["heads"]), tuple(row["neurons"]))) for row in rows]
    cost, _, _ = evaluation_flops(run.store, request.data, run.outcome.student)
    train, validation = (read_split(run.store, request.data, split) for split in ("train", "validation"))
    source = BatchSource(train, 32, 4, 0, torch.device("cpu"))
    chances = dict.fromkeys((0.9, 0.7, 0.5, 0.4, STUDENT_SCALE), 1.0)
    if named == "slices":
        chances = {chosen.scale: 1 / cost.flops(chosen.structure, 1, 1) for chosen in candidates}
    expected = 0
    for step in range(7):
        shares = sandwich(candidates, rule, chances, 4, step)
        assert len(shares) == count
        for share in shares:
            lengths = source.split.lengths[source.rows(step)][share.rows]
            expected += STEP_FORWARDS * cost.flops(share.candidate.structure, len(lengths), int(lengths.max()))
    for batch in evaluation_batches(validation.lengths, 64):
        longest = int(validation.lengths[batch].max())
        expected += sum(cost.flops(chosen.structure, len(batch), longest) for chosen in candidates)
    assert supernet.cost.flops == expected


# stopping early


def test_once_for_all_stops_by_the_mean_of_its_candidates(search, storage):
    config = changed(BASE.once_for_all, patience=1, epochs=12.0, evaluations=21)
    experiment = BASE.model_copy(update={"once_for_all": config})
    run = ran(minidisc(type(search)(experiment, search.subject, STUDENT_SCALE, 0), 0.2, 1, False), storage)
    supernet = run.outcome.supernet
    assert supernet["steps"] < 84
    rows = supernet["evaluations"]
    means = {
        step: float(np.mean([row["metric"] for row in found]))
        for step, found in itertools.groupby(rows, key=lambda row: row["step"])
    }
    final = means.pop(None)
    order = list(means.values())
    assert len(rows) == 5 * (len(order) + 1)
    assert list(means) == [4 * (index + 1) for index in range(len(order))]
    # better until the last, which was not; the best weights are the ones kept
    assert all(later > earlier for earlier, later in zip(order[:-1], order[1:-1], strict=False))
    assert order[-1] <= order[-2]
    assert final == order[-2] == max(order)
    best = max(means, key=lambda step: means[step])
    kept = [row["metric"] for row in rows if row["step"] == best]
    assert [row["metric"] for row in supernet["candidates"]] == kept


def test_a_student_stops_by_its_own_metric(search, storage):
    run = ran(along(with_distillation(search, patience=1, epochs=30.0), ()), storage)
    student = run.outcome.student
    assert student["steps"] < 210
    *during, last = student["evaluations"]
    assert last["step"] is None
    assert last["metric"] == max(row["metric"] for row in during)
    assert during[-1]["metric"] <= during[-2]["metric"]
    # what was evaluated already is not evaluated again
    [request] = run.distils
    cost, widths, evaluating = evaluation_flops(run.store, request.data, student)
    source = BatchSource(read_split(run.store, request.data, "train"), 32, 0, 0, torch.device("cpu"))
    training = STEP_FORWARDS * sum(cost.flops(widths, *source.shape(step)) for step in range(student["steps"]))
    assert student.cost.flops == training + evaluating * len(during)
    kept = read_table(run.store, student, "predictions.arrow").to_pandas()
    weights = read_weights(run.store, Model(student))
    model = load_frozen(weights.config, weights.structure, weights.state)
    found = predict(model, read_split(run.store, request.data, "validation"), 0, Pass(64))
    assert_near(np.stack(kept["prediction"].to_list()), found)
