"""Controls, costs, teacher outputs, early stops and foresight of schedules."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from schedule_runs import BASE, ran, trained, with_distillation
from tiny_runs import (
    ARCHITECTURE,
    NO_DROPOUT,
    ONE_THREAD,
    STUDENT,
    Told,
    changed,
    executor,
    search_of,
    tiny_experiment,
    weights_of,
)
from tiny_schedules import along, kd_equal_compute, kd_supernet_init, minidisc
from tolerance import assert_near

from raydisc.config.sections import SandwichConfig, TeacherOutputsConfig
from raydisc.errors import InputError
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_frozen
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import forward
from raydisc.models.widths import Widths
from raydisc.report.costs import StageGraph
from raydisc.schedules.foresight import foresee
from raydisc.signals.cache import OutputsShape
from raydisc.stages.artifact import Model
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.teacher_outputs import has_room
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.sandwich import sandwich
from raydisc.tasks.batching import evaluation_batches
from raydisc.tasks.kinds import task_kind
from raydisc.training.batches import BatchSource
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

pytestmark = pytest.mark.integration


# controls


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
    search = type(search)(experiment, search.subject, STUDENT, 0)
    run = ran(kd_equal_compute(search, 0.2, 1, False), storage)
    budget = sum(artifact.cost.flops for artifact in ran(minidisc(search, 0.2, 1, False), storage).outcome.own)
    student, request = run.outcome.student, run.distils[-1]
    assert (run.outcome.path, run.outcome.initialisation) == ((), "teacher")
    assert run.outcome.own == (request.outputs, student)
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


def test_equal_compute_never_stops_early(search, storage, mini):
    impatient = with_distillation(search, patience=1, lr=1e-9)
    run = ran(kd_equal_compute(impatient, 0.2, 1, False), storage)
    plain = ran(along(impatient, ()), storage)
    assert run.outcome.student["steps"] > plain.outcome.student["steps"]
    assert len(run.outcome.student["evaluations"]) == 1


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
    paths = [run.run(along(replace(search, student_scale=scale), (0.5,))) for scale in (0.4, STUDENT)]
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
    run = ran(kd_supernet_init(type(search)(experiment, search.subject, STUDENT, 4), 0.2, 1), storage)
    supernet, [request] = run.outcome.supernet, run.distils
    rows = supernet["candidates"]
    candidates = [Candidate(row["scale"], Widths(tuple(row["heads"]), tuple(row["neurons"]))) for row in rows]
    cost, _, _ = evaluation_flops(run.store, request.data, run.outcome.student)
    train, validation = (read_split(run.store, request.data, split) for split in ("train", "validation"))
    source = BatchSource(train, 32, 4, 0, torch.device("cpu"))
    chances = dict.fromkeys((0.9, 0.7, 0.5, 0.4, STUDENT), 1.0)
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


# the first loss shows which model was distilled from which, and how


@pytest.mark.parametrize("source", ["memory", "online"])
@pytest.mark.parametrize(
    "schedule",
    [lambda search: along(search, (0.5,)), lambda search: minidisc(search, 0.2, 1, False)],
    ids=["takd", "minidisc"],
)
def test_the_first_loss_is_between_the_start_and_its_teacher(search, tmp_path, schedule, source):
    """Computed by hand from the artifacts that the request names, on the first batch."""
    teacher = changed(BASE.teacher, architecture=ARCHITECTURE | NO_DROPOUT)
    objective = changed(BASE.distillation, temperature=2.0, layer_mapping=[[3, 2], [1, 0]])
    experiment = tiny_experiment(
        teacher=teacher, distillation=objective, teacher_outputs=TeacherOutputsConfig(source=source)
    )
    heard, told = [], Told()
    run = executor(tmp_path, told, heard.append)
    run.run(schedule(search_of(experiment)))
    loss = WeightedLoss.of(objective.losses, 2.0, task_kind("classification"))
    for request, artifact, _ in told.stages:
        if request.kind != "distil":
            continue
        data = request.data
        batch = BatchSource(read_split(run.store, data, "train"), 32, 0, 0, torch.device("cpu")).batch(0)
        of = [model_at(run.store, Model(request.start.artifact, request.scale), request)]
        of.append(model_at(run.store, request.teacher, request))
        with torch.no_grad():
            expected = loss(forward(of[0], batch, (3, 1)), forward(of[1], batch, (2, 0)), batch)
        [first] = [state["loss"] for state in heard if state["key"] == artifact.key and state.get("step") == 1]
        assert first == pytest.approx(float(expected), rel=2e-3)
        assert first > 0.1


def model_at(store, model, request):
    """A model of an artifact, cut to a scale whether or not the artifact is a supernet."""
    weights = read_weights(store, Model(model.artifact))
    widths = (
        weights.structure if model.scale is None else read_candidate(store, request.importance, model.scale).structure
    )
    return load_frozen(weights.config, widths, widths.cut(weights.state, weights.config))


# stopping early


def test_once_for_all_stops_by_the_mean_of_its_candidates(search, storage):
    config = changed(BASE.once_for_all, patience=1, epochs=12.0, evaluations=21)
    experiment = BASE.model_copy(update={"once_for_all": config})
    run = ran(minidisc(type(search)(experiment, search.subject, STUDENT, 0), 0.2, 1, False), storage)
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


# teacher outputs


@pytest.fixture(scope="module")
def online(search, storage):
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(source="online")})
    return ran(minidisc(type(search)(experiment, search.subject, STUDENT, 0), 0.2, 1, False), storage)


def test_online_outputs_train_nearly_the_same(mini, online):
    """Half precision of the cached hidden states is the only difference, and not none."""
    [once] = [request for request, _, _ in mini.told.stages if isinstance(request, OnceForAll)]
    models = (Model(mini.outcome.supernet), Model(online.outcome.supernet), Model(once.importance))
    cached, fresh, start = (read_weights(mini.store, model).state for model in models)

    def distance(one, other):
        parts = [(one[name] - other[name][tuple(map(slice, one[name].shape))]).flatten() for name in one]
        return float(torch.cat(parts).norm())

    assert 0 < distance(cached, fresh) < 0.1 * distance(cached, start)
    for mine, theirs in zip(mini.outcome.supernet["candidates"], online.outcome.supernet["candidates"], strict=True):
        assert mine["metric"] == pytest.approx(theirs["metric"], abs=0.1)


def test_online_outputs_leave_nothing_to_read_and_cost_a_forward_a_step(mini, online):
    both = [artifact for request, artifact, _ in online.told.stages if request.kind == "teacher_outputs"]
    assert len(both) == 2
    for outputs in both:
        assert outputs["source"] == "online"
        assert not outputs.blobs
        assert outputs.cost.flops == 0
    assert online.outcome.supernet.cost.flops > mini.outcome.supernet.cost.flops


def ran_with(search, storage, schedule, **outputs):
    """A schedule's run with other settings of teacher outputs, and where it kept them."""
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(**outputs)})
    run = ran(schedule(replace(search, experiment=experiment)), storage)
    return run, [artifact["source"] for request, artifact, _ in run.told.stages if request.kind == "teacher_outputs"]


def test_outputs_go_where_they_fit_first(search, storage):
    """The teacher's and an assistant's alike; what is kept, in memory or on disk, trains the same bits."""

    def sources(**outputs):
        run, found = ran_with(search, storage, lambda search: along(search, (0.5,)), **outputs)
        return found, weights_of(run.store, run.outcome.student), run.outcome.student.flops

    memory, disk, online = sources(), sources(budget_gib=0.0), sources(budget_gib=0.0, disk_budget_gib=0.0)
    assert [found for found, _, _ in (memory, disk, online)] == [["memory"] * 2, ["disk"] * 2, ["online"] * 2]
    assert memory[1:] == disk[1:]
    assert online[2] > disk[2]


MIB = 2**-10
TOO_SMALL = {
    "named": ({"source": "memory", "budget_gib": 0.2 * MIB}, r"do not fit budget_gib: 0.000195313; raise it, or set"),
    "on disk": ({"source": "disk", "disk_budget_gib": 0.2 * MIB}, "do not fit disk_budget_gib"),
    "below a batch": (
        {"budget_gib": 1e-6},
        r"budget_gib: 1e-06 GiB would not hold the outputs of one batch of 64 rows, [\d.e-]+ GiB; all rows take",
    ),
    "a disk below a batch": ({"budget_gib": 0.0, "disk_budget_gib": 1e-6}, r"disk_budget_gib: 1e-06 GiB would not"),
}


@pytest.mark.parametrize("case", TOO_SMALL)
def test_outputs_that_do_not_fit_are_refused_before_the_teacher_is_trained(search, tmp_path, case):
    outputs, message = TOO_SMALL[case]
    schedule = replace(search, experiment=BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(**outputs)}))
    told = Told()
    with pytest.raises(InputError, match=message):
        executor(tmp_path, told).run(along(schedule, ()))
    assert told.computed == ["tokenise"]
    # by the next run, which finds the tokens, before it starts
    with pytest.raises(InputError, match=message):
        foresee(along(schedule, ()), ONE_THREAD, executor(tmp_path).store.find)


def test_a_full_disk_is_seen_before_anything_is_computed(tmp_path):
    endless = OutputsShape(rows=10**9, tokens=10**12, positions=13, hidden_size=768, num_logits=2)
    assert not has_room(TeacherOutputsConfig(), tmp_path / "new", endless)  # computed online instead
    assert has_room(TeacherOutputsConfig(), tmp_path, replace(endless, rows=1, tokens=1))
    for source in ("memory", "disk"):
        with pytest.raises(InputError, match=r"1.86e\+07 GiB are to be kept, but the storage has .* free; make room"):
            has_room(TeacherOutputsConfig(source=source), tmp_path, endless)


def test_losses_without_hidden_states(search, storage):
    run = ran(along(with_distillation(search, losses={"soft_cross_entropy": 1.0}), (0.5,)), storage)
    both = [artifact for request, artifact, _ in run.told.stages if request.kind == "teacher_outputs"]
    assert [outputs["positions"] for outputs in both] == [[], []]
    assert run.outcome.student["steps"] == 7


# foresight


@pytest.mark.parametrize(
    ("schedule", "unforeseen"),
    [
        (lambda search: along(search, ()), 0),
        (lambda search: along(search, (0.7, 0.4)), 0),
        (lambda search: kd_supernet_init(search, 0.2, 1), 0),
        (lambda search: minidisc(search, 0.2, 1, False), 2),
        (lambda search: minidisc(search, 0.0, 2, False), 4),
    ],
)
def test_foresight_names_the_keys_that_the_run_asks_for(search, storage, schedule, unforeseen):
    told = ran(schedule(search), storage).told
    blind = [artifact.key for _, artifact in foresee(schedule(search), ONE_THREAD, lambda key: None)]
    assert blind == told.keys[: len(told.keys) - unforeseen]
    finished = foresee(schedule(search), ONE_THREAD, executor(storage).store.find)
    assert [artifact.key for _, artifact in finished] == told.keys
    assert all(artifact.facts is not None for _, artifact in finished)


def test_foresight_does_not_guess_a_budget(search, storage, mini):
    """Until MiniDisc's student is there, nobody knows what equal compute is."""
    student = mini.outcome.student.key

    def control():
        return kd_equal_compute(search, 0.2, 1, False)

    seen = foresee(control(), ONE_THREAD, lambda key: None if key == student else mini.store.find(key))
    assert [artifact.key for _, artifact in seen] == mini.told.keys
    complete = foresee(control(), ONE_THREAD, mini.store.find)
    assert [artifact.key for _, artifact in complete] == ran(control(), storage).told.keys


# the test split


def test_the_test_split_is_read_by_its_own_stage(mini):
    run = executor(mini.store.root.parent)
    data = mini.distils[0].data
    found = run.execute(Evaluate(data, mini.outcome.student))
    [row] = found["evaluations"]
    assert (row["split"], row["step"]) == ("test", None)
    kept = read_table(mini.store, found, "predictions.arrow").to_pandas()
    test = read_split(mini.store, data, "test")
    assert kept["row"].tolist() == list(range(60))
    assert kept["label"].tolist() == test.labels.tolist()
    predicted = np.stack(kept["prediction"].to_list()).argmax(1)
    assert row["metric"] == pytest.approx(float((predicted == test.labels).mean()))
    assert set(kept["split"]) == {"test"}
    for artifact in trained(mini.outcome):
        assert {row["split"] for row in artifact["evaluations"]} == {"validation"}
