"""Real schedules on a tiny task, in this process: what they ask for and what they end with."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_runs import ARCHITECTURE, NO_DROPOUT, STUDENT, Told, changed, executor, search_of, tiny_experiment, weights_of

from raydisc.distillation.losses import WeightedLoss
from raydisc.distillation.predict import predict
from raydisc.distillation.sandwich import sandwich
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.dense import cut, load_frozen
from raydisc.models.outputs import forward
from raydisc.models.widths import Widths
from raydisc.schedules.controls import kd_equal_compute, kd_supernet_init
from raydisc.schedules.foresight import foresee
from raydisc.schedules.kd import along
from raydisc.schedules.minidisc import choose_path, minidisc
from raydisc.settings import TeacherOutputsConfig
from raydisc.stages.batches import BatchSource
from raydisc.stages.context import read_split, read_table, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.requests import Distil, Evaluate, Model, OnceForAll
from raydisc.supernet.grid import Candidate, size_at
from raydisc.tasks.batching import evaluation_batches

pytestmark = pytest.mark.integration

BASE = tiny_experiment()
GRID = (0.9, 0.7, 0.5, 0.4)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """One storage for the whole module: what one test trained another finds."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def search():
    return search_of(BASE)


def ran(schedule, storage):
    """A schedule's outcome with what it asked for."""
    told = Told()
    run = executor(storage, told)
    outcome = run.run(schedule)
    distils = [request for request, _, _ in told.stages if isinstance(request, Distil)]
    return SimpleNamespace(outcome=outcome, told=told, distils=distils, store=run.store)


@pytest.fixture(scope="module")
def mini(search, storage):
    return ran(minidisc(search, 0.2, 1), storage)


def with_distillation(search, **values):
    experiment = search.experiment.model_copy(update={"distillation": changed(BASE.distillation, **values)})
    return type(search)(experiment, search.subject, search.student_scale, search.seed)


def distances(store, one, other):
    """The largest distance of each weight of two models."""
    a, b = (read_weights(store, model).state for model in (one, other))
    return {name: float((a[name] - b[name]).abs().max()) if a[name].numel() else 0.0 for name in a}


# kd, takd, maxidisc


def test_kd_is_the_empty_path(search, storage):
    run = ran(along(search, ()), storage)
    [request] = run.distils
    outcome = run.outcome
    assert (outcome.path, outcome.initialisation, outcome.supernet, outcome.lam) == ((), "teacher", None, None)
    assert outcome.trained == (outcome.student,)
    assert request.teacher == request.start
    assert request.teacher.artifact.kind == "importance"
    assert request.outputs.kind == "teacher_outputs"
    assert outcome.student["scale"] == request.scale == STUDENT
    parameters = request.importance["parameters"]
    config = read_weights(run.store, Model(request.importance)).config
    size = size_at(config, parameters, STUDENT)
    assert outcome.student["parameters"] == size.parameters
    assert outcome.student["measured_scale"] == size.measured_scale
    assert outcome.student["steps"] == 7
    state = read_weights(run.store, Model(outcome.student))
    assert (sum(state.widths.heads), sum(state.widths.neurons)) == (3, 15)
    assert sum(tensor.numel() for tensor in state.state.values()) == size.parameters


@pytest.mark.parametrize("path", [(0.5,), (0.7, 0.4)])
def test_assistants_teach_and_start_the_next(search, storage, path):
    run = ran(along(search, path), storage)
    outcome = run.outcome
    assert (outcome.path, outcome.initialisation) == (path, "assistant")
    assert [request.scale for request in run.distils] == [*path, STUDENT]
    assert [artifact["scale"] for artifact in outcome.trained] == [*path, STUDENT]
    assert run.distils[0].outputs is not None
    for before, request in zip(outcome.trained, run.distils[1:], strict=False):
        assert request.teacher == request.start == Model(before)
        assert request.outputs is None  # the cached ones are the teacher's
        assert before.key in request.promise(1).inputs
    assert outcome.student == outcome.trained[-1]


def test_assistants_teach_students_cut_from_the_teacher(search, storage):
    run = ran(along(with_distillation(search, initialisation="teacher"), (0.5,)), storage)
    assert run.outcome.initialisation == "teacher"
    first, second = run.distils
    assert first.start == second.start == Model(first.importance)
    assert second.teacher == Model(run.outcome.trained[0])


def test_paths_share_what_they_begin_with(search, storage):
    ran(along(search, (0.7, 0.4)), storage)
    again = ran(along(search, (0.7, 0.5)), storage)
    assert again.told.computed.count("distil") <= 2
    assert again.outcome.trained[0] == ran(along(search, (0.7, 0.4)), storage).outcome.trained[0]


# minidisc


def test_minidisc_trains_the_student_alone(mini):
    outcome, [request] = mini.outcome, mini.distils
    assert (outcome.initialisation, outcome.lam) == ("supernet", 0.2)
    assert outcome.trained == (outcome.supernet, outcome.student)
    assert request.teacher == Model(outcome.supernet, outcome.path[0])
    assert request.start == Model(outcome.supernet)
    assert request.outputs is None
    assert mini.told.computed.count("distil") == 1


def test_the_supernet_holds_the_grid_down_to_the_student(mini):
    [once] = [request for request, _, _ in mini.told.stages if isinstance(request, OnceForAll)]
    rows = mini.outcome.supernet["candidates"]
    assert [row["scale"] for row in rows] == list(once.scales) == [*GRID, STUDENT]  # 0.1 is below the student
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
    assert once.config.sandwich == mini.outcome.supernet["sandwich"] == 1


def test_what_is_said_of_a_candidate_is_what_its_model_does(mini):
    """Each candidate cut out of the finished supernet predicts what the artifact says and scores what it says."""
    supernet = mini.outcome.supernet
    data = mini.distils[0].data
    validation = read_split(mini.store, data, "validation")
    kept = read_table(mini.store, supernet, "predictions.arrow").to_pandas()
    assert len(kept) == 5 * len(validation)
    for row in supernet["candidates"]:
        weights = read_weights(mini.store, Model(supernet, row["scale"]))
        model = load_frozen(weights.config, weights.widths, weights.state)
        found = predict(model, validation, data["pad_id"], 16, lambda batch: None)
        own = kept[kept["scale"] == row["scale"]]
        assert own["row"].tolist() == list(range(len(validation)))
        np.testing.assert_allclose(np.stack(own["prediction"].to_list()), found, atol=1e-5)
        assert row["metric"] == pytest.approx(float((found.argmax(1) == validation.labels).mean()))


def test_no_weight_on_size_picks_the_best_and_a_huge_one_the_smallest(mini, search, storage):
    rows = [row for row in mini.outcome.supernet["candidates"] if row["scale"] > STUDENT]
    best = max(rows, key=lambda row: (row["metric"], -row["scale"]))
    assert ran(minidisc(search, 0.0, 1), storage).outcome.path == (best["scale"],)
    assert ran(minidisc(search, 1000.0, 1), storage).outcome.path == (0.4,)


def scored(*pairs):
    return [{"scale": scale, "metric": metric} for scale, metric in pairs]


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
    assert choose_path(CURVE, lam, assistants, STUDENT) == path
    assert choose_path(CURVE[::-1], lam, assistants, STUDENT) == path


def test_the_papers_figure_is_chosen_as_in_the_paper():
    """MRPC of arXiv 2205.14570, figure 1, where λ = 0.2 picks 0.2 (by 0.001 over 0.3)."""
    mrpc = scored((0.7, 0.915), (0.6, 0.913), (0.5, 0.913), (0.4, 0.899), (0.3, 0.889), (0.2, 0.870))
    assert choose_path(mrpc, 0.2, 1, 0.1) == (0.2,)


def test_two_assistants_are_a_longer_path(mini, search, storage):
    run = ran(minidisc(search, 0.0, 2), storage)
    outcome = run.outcome
    assert len(outcome.path) == 2
    assert outcome.path == choose_path(outcome.supernet["candidates"], 0.0, 2, STUDENT)
    assert outcome.path[0] > outcome.path[1] > STUDENT
    assert [request.scale for request in run.distils] == [outcome.path[1], STUDENT]
    assert run.distils[0].teacher == Model(outcome.supernet, outcome.path[0])
    assert run.distils[1].teacher == Model(outcome.trained[1])
    assert all(request.start == Model(outcome.supernet) for request in run.distils)
    assert outcome.supernet == mini.outcome.supernet


def test_another_lambda_trains_nothing_but_perhaps_the_student(mini, search, storage):
    for lam in (0.0, 0.21, 1000.0):
        run = ran(minidisc(search, lam, 1), storage)
        assert set(run.told.computed) <= {"distil"}
        assert run.told.computed.count("distil") <= 1
        if run.outcome.path == mini.outcome.path:
            assert run.told.computed == []
            assert run.outcome.student == mini.outcome.student


def test_a_cached_run_is_a_fresh_run_bit_for_bit(mini, search, tmp_path):
    fresh = ran(minidisc(search_of(BASE), 0.2, 1), tmp_path)
    assert fresh.told.keys == mini.told.keys
    assert not any(found for _, _, found in fresh.told.stages)
    for mine, theirs in zip(fresh.outcome.trained, mini.outcome.trained, strict=True):
        assert weights_of(fresh.store, mine) == weights_of(mini.store, theirs)
        assert mine.blobs["model.safetensors"] == theirs.blobs["model.safetensors"]
        assert mine.facts == theirs.facts
        assert mine.cost.flops == theirs.cost.flops


def test_another_seed_is_another_student_of_the_same_teacher(search, storage, mini):
    other = type(search)(search.experiment, search.subject, STUDENT, 1)
    run = ran(minidisc(other, 0.2, 1), storage)
    assert run.told.computed == ["once_for_all", "distil"]
    assert weights_of(run.store, run.outcome.supernet) != weights_of(mini.store, mini.outcome.supernet)
    assert weights_of(run.store, run.outcome.student) != weights_of(mini.store, mini.outcome.student)


def test_a_new_grid_is_a_new_supernet_and_nothing_else_new(mini, search, storage):
    experiment = BASE.model_copy(update={"grid": changed(BASE.grid, scales=[0.8, 0.5])})
    run = ran(minidisc(type(search)(experiment, search.subject, STUDENT, 0), 0.2, 1), storage)
    assert run.told.computed == ["once_for_all", "distil"]


# where the student starts and who teaches it


def test_the_student_is_cut_from_the_supernet(mini, search, storage):
    """With steps too small to move a weight the student is the supernet's own candidate."""
    run = ran(minidisc(with_distillation(search, lr=1e-12), 0.2, 1), storage)
    supernet = run.outcome.supernet
    still = distances(run.store, Model(run.outcome.student), Model(supernet, STUDENT))
    assert max(still.values()) < 1e-7
    moved = distances(run.store, Model(mini.outcome.student), Model(supernet, STUDENT))
    assert max(moved.values()) > 1e-3


def test_the_student_is_cut_from_the_teacher_where_that_is_asked_for(search, storage):
    run = ran(minidisc(with_distillation(search, lr=1e-12, initialisation="teacher"), 0.2, 1), storage)
    assert run.outcome.initialisation == "teacher"
    [request] = run.distils
    assert request.start == Model(request.importance)
    teacher = read_weights(run.store, Model(request.importance)).state
    student = read_weights(run.store, Model(run.outcome.student)).state
    for name, tensor in student.items():
        torch.testing.assert_close(tensor, teacher[name][tuple(map(slice, tensor.shape))], atol=1e-7, rtol=0)


def test_the_candidate_teaches_the_student(mini, search, storage):
    """From the same start, another teacher makes another student."""
    control = ran(kd_supernet_init(search), storage)
    [request] = control.distils
    assert request.start == mini.distils[0].start == Model(mini.outcome.supernet)
    assert request.teacher == Model(request.importance)
    assert request.outputs is not None
    assert (control.outcome.path, control.outcome.initialisation) == ((), "supernet")
    assert control.outcome.trained == (mini.outcome.supernet, control.outcome.student)
    between = distances(control.store, Model(control.outcome.student), Model(mini.outcome.student))
    assert max(between.values()) > 1e-3


def test_a_student_comes_nearer_to_its_teacher(search, storage):
    """The distance that distillation lowers is lower afterwards, and lowest to the one that taught."""
    longer = with_distillation(search, epochs=12.0)
    run = ran(along(longer, (0.5,)), storage)
    assistant, request = run.outcome.trained[0], run.distils[1]
    validation = read_split(run.store, request.data, "validation")

    def logits(model):
        weights = read_weights(run.store, model)
        frozen = load_frozen(weights.config, weights.widths, weights.state)
        return predict(frozen, validation, 0, 64, lambda batch: None)

    target = logits(Model(assistant))
    start = logits(Model(assistant_start(run, request)))
    distance = np.square(logits(Model(run.outcome.student)) - target).mean()
    assert distance < 0.5 * np.square(start - target).mean()


def assistant_start(run, request):
    """The student before its training: as an artifact of one with steps too small to move a weight."""
    still = Distil(**{**request.__dict__, "config": changed(request.config, lr=1e-12, epochs=0.1)})
    return executor(run.store.root.parent).execute(still)


# controls


def evaluation_flops(store, data, artifact):
    weights = read_weights(store, Model(artifact))
    cost = ForwardCost.of(load_frozen(weights.config, weights.widths, weights.state), weights.config)
    split = read_split(store, data, "validation")
    return (
        cost,
        weights.widths,
        sum(
            cost.flops(weights.widths, len(rows), int(split.lengths[rows].max()))
            for rows in evaluation_batches(split.lengths, 64)
        ),
    )


@pytest.mark.parametrize("source", ["cached", "online"])
def test_kd_with_equal_compute_spends_what_minidisc_spent(search, storage, source):
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(source=source)})
    search = type(search)(experiment, search.subject, STUDENT, 0)
    run = ran(kd_equal_compute(search, 0.2, 1), storage)
    budget = sum(artifact.cost.flops for artifact in ran(minidisc(search, 0.2, 1), storage).outcome.trained)
    student, request = run.outcome.student, run.distils[-1]
    assert (run.outcome.path, run.outcome.initialisation) == ((), "teacher")
    assert run.outcome.trained == (student,)
    assert request.teacher == request.start == Model(request.importance)
    assert request.budget_flops == budget

    cost, widths, evaluating = evaluation_flops(run.store, request.data, student)
    split = read_split(run.store, request.data, "train")
    longest = int(split.lengths.max())
    step = STEP_FORWARDS * cost.flops(widths, 32, longest)
    step += cost.flops(Widths((4, 4, 4), (20, 20, 20)), 32, longest) if source == "online" else 0
    spent = student.cost.flops - evaluating
    assert budget <= spent <= budget + step
    assert student["steps"] > (14 if source == "online" else 40)
    supernet_and_student = run.told.stages[-1][1].inputs
    assert ran(minidisc(search, 0.2, 1), storage).outcome.supernet.key not in supernet_and_student


def test_equal_compute_never_stops_early(search, storage, mini):
    impatient = with_distillation(search, patience=1, lr=1e-9)
    run = ran(kd_equal_compute(impatient, 0.2, 1), storage)
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


def test_a_student_pays_for_its_assistants_outputs_once(mini):
    """A candidate's outputs are no artifact: the student's stage runs it once over every training row."""
    [request] = mini.distils
    cost, widths, evaluating = evaluation_flops(mini.store, request.data, mini.outcome.student)
    assistant = read_weights(mini.store, request.teacher).widths
    train = read_split(mini.store, request.data, "train")
    source = BatchSource(train, 32, 0, 0, torch.device("cpu"))
    training = STEP_FORWARDS * sum(cost.flops(widths, *source.shape(step)) for step in range(7))
    outputs = sum(
        cost.flops(assistant, len(rows), int(train.lengths[rows].max()))
        for rows in evaluation_batches(train.lengths, 64)
    )
    assert mini.outcome.student.cost.flops == training + outputs + evaluating


@pytest.mark.parametrize("rule", [1, "all"])
def test_once_for_all_costs_what_its_sandwiches_cost(search, storage, rule):
    """Step by step: the candidates that the rule draws from this seed and step, and every candidate at the end."""
    config = changed(BASE.once_for_all, sandwich=rule)
    experiment = BASE.model_copy(update={"once_for_all": config})
    run = ran(kd_supernet_init(type(search)(experiment, search.subject, STUDENT, 4)), storage)
    supernet, [request] = run.outcome.supernet, run.distils
    rows = supernet["candidates"]
    candidates = [Candidate(row["scale"], Widths(tuple(row["heads"]), tuple(row["neurons"]))) for row in rows]
    cost, _, _ = evaluation_flops(run.store, request.data, run.outcome.student)
    train, validation = (read_split(run.store, request.data, split) for split in ("train", "validation"))
    source = BatchSource(train, 32, 4, 0, torch.device("cpu"))
    expected = 0
    for step in range(7):
        active = sandwich(candidates, rule, 4, step)
        assert len(active) == (5 if rule == "all" else 3)
        expected += STEP_FORWARDS * sum(cost.flops(chosen.widths, *source.shape(step)) for chosen in active)
    for batch in evaluation_batches(validation.lengths, 64):
        longest = int(validation.lengths[batch].max())
        expected += sum(cost.flops(chosen.widths, len(batch), longest) for chosen in candidates)
    assert supernet.cost.flops == expected


# the first loss tells who taught whom, and how


@pytest.mark.parametrize("source", ["cached", "online"])
@pytest.mark.parametrize(
    "schedule",
    [lambda search: along(search, (0.5,)), lambda search: minidisc(search, 0.2, 1)],
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
    loss = WeightedLoss.of(objective.losses, 2.0, False)
    for request, artifact, _ in told.stages:
        if request.kind != "distil":
            continue
        data = request.data
        batch = BatchSource(read_split(run.store, data, "train"), 32, 0, 0, torch.device("cpu")).batch(0)
        of = [model_at(run.store, Model(request.start.artifact, request.scale), request)]
        of.append(model_at(run.store, request.teacher, request))
        with torch.no_grad():
            expected = loss(forward(of[0], batch, (3, 1)), forward(of[1], batch, (2, 0)), batch)
        [first] = [state["loss"] for state in heard if state["key"] == artifact.key and state["step"] == 1]
        assert first == pytest.approx(float(expected), rel=2e-3)
        assert first > 0.1


def model_at(store, model, request):
    """A model of an artifact, cut to a scale whether or not the artifact is a supernet."""
    weights = read_weights(store, Model(model.artifact))
    widths = weights.widths if model.scale is None else read_candidate(store, request.importance, model.scale).widths
    return load_frozen(weights.config, widths, cut(weights.state, weights.config, widths))


# stopping early


def test_once_for_all_stops_by_the_mean_of_its_candidates(search, storage):
    config = changed(BASE.once_for_all, patience=1, epochs=12.0, evaluations_per_epoch=2)
    experiment = BASE.model_copy(update={"once_for_all": config})
    run = ran(minidisc(type(search)(experiment, search.subject, STUDENT, 0), 0.2, 1), storage)
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


# teacher outputs


@pytest.fixture(scope="module")
def online(search, storage):
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(source="online")})
    return ran(minidisc(type(search)(experiment, search.subject, STUDENT, 0), 0.2, 1), storage)


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
    [outputs] = [artifact for request, artifact, _ in online.told.stages if request.kind == "teacher_outputs"]
    assert outputs["source"] == "online"
    assert not outputs.blobs
    assert outputs.cost.flops == 0
    assert online.outcome.supernet.cost.flops > mini.outcome.supernet.cost.flops


def test_outputs_beyond_the_budget_are_computed_in_every_step(search, storage, monkeypatch):
    """Nobody keeps what does not fit, neither the teacher's outputs nor an assistant's."""
    from raydisc.stages import targets

    remembered = []
    original = targets.compute_outputs
    monkeypatch.setattr(targets, "compute_outputs", lambda *args: (remembered.append(args), original(*args))[1])
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(budget_gib=1e-6)})
    small = ran(along(type(search)(experiment, search.subject, STUDENT, 0), (0.5,)), storage)
    [outputs] = [artifact for request, artifact, _ in small.told.stages if request.kind == "teacher_outputs"]
    assert outputs["source"] == "online"
    assert remembered == []
    roomy = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(budget_gib=0.5)})
    ran(along(type(search)(roomy, search.subject, STUDENT, 0), (0.5,)), storage)
    assert len(remembered) == 1  # the assistant's; the teacher's were an artifact


def test_cached_outputs_that_do_not_fit_are_refused(search, storage):
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(source="cached", budget_gib=1e-6)})
    from raydisc.errors import InputError

    with pytest.raises(InputError, match="do not fit budget_gib: 1e-06"):
        ran(along(type(search)(experiment, search.subject, STUDENT, 0), ()), storage)


def test_losses_without_hidden_states(search, storage):
    run = ran(along(with_distillation(search, losses={"soft_cross_entropy": 1.0}), (0.5,)), storage)
    [outputs] = [artifact for request, artifact, _ in run.told.stages if request.kind == "teacher_outputs"]
    assert outputs["positions"] == []
    assert run.outcome.student["steps"] == 7


# foresight


@pytest.mark.parametrize(
    ("schedule", "unforeseen"),
    [
        (lambda search: along(search, ()), 0),
        (lambda search: along(search, (0.7, 0.4)), 0),
        (kd_supernet_init, 0),
        (lambda search: minidisc(search, 0.2, 1), 1),
        (lambda search: minidisc(search, 0.0, 2), 2),
    ],
)
def test_foresight_names_the_keys_that_the_run_asks_for(search, storage, schedule, unforeseen):
    told = ran(schedule(search), storage).told
    blind = [artifact.key for _, artifact in foresee(schedule(search), 1, lambda key: None)]
    assert blind == told.keys[: len(told.keys) - unforeseen]
    finished = foresee(schedule(search), 1, executor(storage).store.find)
    assert [artifact.key for _, artifact in finished] == told.keys
    assert all(artifact.facts is not None for _, artifact in finished)


def test_foresight_does_not_guess_a_budget(search, storage, mini):
    """Until MiniDisc's student is there, nobody knows what equal compute is."""
    student = mini.outcome.student.key
    seen = foresee(kd_equal_compute(search, 0.2, 1), 1, lambda key: None if key == student else mini.store.find(key))
    assert [artifact.key for _, artifact in seen] == mini.told.keys
    complete = foresee(kd_equal_compute(search, 0.2, 1), 1, mini.store.find)
    assert [artifact.key for _, artifact in complete] == ran(kd_equal_compute(search, 0.2, 1), storage).told.keys


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
    for artifact in mini.outcome.trained:
        assert {row["split"] for row in artifact["evaluations"]} == {"validation"}
