"""Where the outputs that schedules distil from are kept, what is distilled from them, foresight, and the test split."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from schedule_runs import BASE, ran, trained, with_distillation
from tiny_runs import NO_DROPOUT, Told, changed, executor, search_of, tiny_experiment, weights_of
from tiny_schedules import along, kd_equal_compute, minidisc, takd_smallest

from raydisc.config.sections import TeacherOutputsConfig
from raydisc.errors import InputError
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_frozen
from raydisc.models.forward import forward
from raydisc.schedules.foresight import foresee
from raydisc.signals.cache import OutputsShape
from raydisc.stages.artifact import Model
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.teacher_outputs import has_room
from raydisc.tasks.kinds import task_kind
from raydisc.testing.runs import ARCHITECTURE, ONE_THREAD, STUDENT_SCALE
from raydisc.training.batches import BatchSource

pytestmark = pytest.mark.integration


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
        [first] = [found.event.loss for found in heard if found.key == artifact.key and found.step == 1]
        assert first == pytest.approx(float(expected), rel=2e-3)
        assert first > 0.1


def model_at(store, model, request):
    """A model of an artifact, cut to a scale whether or not the artifact is a supernet."""
    weights = read_weights(store, Model(model.artifact))
    widths = (
        weights.structure if model.scale is None else read_candidate(store, request.importance, model.scale).structure
    )
    return load_frozen(weights.config, widths, widths.cut(weights.state, weights.config))


# teacher outputs


@pytest.fixture(scope="module")
def online(search, storage):
    experiment = BASE.model_copy(update={"teacher_outputs": TeacherOutputsConfig(source="online")})
    return ran(minidisc(type(search)(experiment, search.subject, STUDENT_SCALE, 0), 0.2, 1, False), storage)


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
        (lambda search: takd_smallest(search, 0.2, 1), 0),
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
