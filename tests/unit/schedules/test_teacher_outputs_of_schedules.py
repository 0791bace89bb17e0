"""Where the outputs that schedules distil from are kept, what is distilled from them, foresight, and the test split."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from schedule_runs import BASE, ran, trained, with_distillation
from tiny_runs import NO_DROPOUT, Told, changed, executor, search_of, tiny_experiment, tokens_known, weights_of
from tiny_schedules import along, kd_equal_compute, minidisc, takd_smallest

from raydisc.config.sections import TeacherOutputsConfig
from raydisc.errors import InputError
from raydisc.losses.objective import WeightedLoss
from raydisc.models.build import load_frozen
from raydisc.models.forward import forward
from raydisc.schedules.foresight import foresee
from raydisc.schedules.trials import notices_of_outputs
from raydisc.signals.cache import OutputsShape
from raydisc.stages.artifact import Model
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import Executor
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.store import ArtifactStore
from raydisc.stages.teacher_outputs import refuse_without_room, room_in
from raydisc.stages.worker import Worker
from raydisc.tasks.kinds import task_kind
from raydisc.testing.runs import ARCHITECTURE, ONE_THREAD, STUDENT_SCALE
from raydisc.training.batches import BatchSource
from raydisc.training.execution import Execution

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


def test_a_teacher_that_is_run_in_every_step_leaves_no_outputs_and_costs_a_forward_a_step(mini, online):
    assert "teacher_outputs" not in {request.kind for request, _, _ in online.told.stages}
    assert online.outcome.supernet.cost.flops > mini.outcome.supernet.cost.flops


def test_outputs_go_where_they_fit_first(search, tmp_path):
    """The teacher's and an assistant's alike; what is kept, in memory or on disk, trains the same bits by one key."""

    def sources(name, **outputs):
        section, told, read = TeacherOutputsConfig(**outputs), Told(), []
        execution = Execution.of(BASE.resources, section, "float32")
        store = ArtifactStore(tmp_path / name)
        of_memory = ArtifactStore(
            store.root.parent, lambda artifact, file: read.append(file) or store.map_blob(artifact, file)
        )
        run = Executor(
            of_memory, Worker(of_memory, torch.device("cpu"), execution), ONE_THREAD, lambda state: None, told
        )
        student = run.run(
            along(replace(search, experiment=BASE.model_copy(update={"teacher_outputs": section})), (0.5,))
        ).student
        places = [artifact["source"] for request, artifact, _ in told.stages if request.kind == "teacher_outputs"]
        assert ("hidden.arrow" in read) == ("memory" in places)
        return places, student.key, weights_of(store, student), student.flops

    memory, disk = sources("memory"), sources("disk", budget_gib=0.0)
    online = sources("online", budget_gib=0.0, disk_budget_gib=0.0)
    assert [found for found, *_ in (memory, disk, online)] == [["memory"] * 2, ["disk"] * 2, []]
    assert memory[1:] == disk[1:]
    assert online[1] != disk[1]
    assert online[3] > disk[3]


@pytest.mark.parametrize("free", [0, 10**6, 10**15])
def test_a_run_decides_alike_whatever_room_a_disk_has(search, monkeypatch, free):
    """Under `auto` free disk once decided between kept outputs and a teacher in every step, by one key."""
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    find = tokens_known(BASE, search.subject)
    found = foresee(along(search, ()), ONE_THREAD, find)
    assert [stage.kind for stage, _ in found] == ["tokenise", "finetune", "importance", "teacher_outputs", "distil"]


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
    refuse_without_room(replace(endless, rows=1, tokens=1), room_in(tmp_path / "new", endless))
    with pytest.raises(InputError, match=r"1.86e\+07 GiB are to be kept, but the storage has .* free; make room"):
        refuse_without_room(endless, room_in(tmp_path, endless))


def test_a_full_disk_ends_the_stage_with_a_sentence_and_trains_nothing_else(search, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    told = Told()
    with pytest.raises(InputError, match="teacher_outputs: .* GiB are to be kept, but the storage has .* GiB free"):
        executor(tmp_path, told).run(along(search, ()))
    assert told.computed == ["tokenise", "finetune", "importance"]


def test_files_that_an_earlier_attempt_left_are_room(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    shape = OutputsShape(rows=10, tokens=100, positions=2, hidden_size=8, num_logits=2)
    (tmp_path / shape.files[0]).write_bytes(bytes(500))
    assert room_in(tmp_path, shape) == 1500


def test_budgets_that_hold_no_outputs_are_told(search):
    config = TeacherOutputsConfig(budget_gib=0.0, disk_budget_gib=0.0)
    data = next(found for _, found in foresee(along(search, ()), ONE_THREAD, tokens_known(BASE, search.subject)))
    [told] = notices_of_outputs(BASE.model_copy(update={"teacher_outputs": config}), search.subject, data)
    assert told.startswith("teacher_outputs: neither budget_gib: 0 nor disk_budget_gib: 0 holds")
    for quiet in (TeacherOutputsConfig(), TeacherOutputsConfig(source="online")):
        assert notices_of_outputs(BASE.model_copy(update={"teacher_outputs": quiet}), search.subject, data) == []


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
    find = tokens_known(BASE, search.subject)
    blind = [artifact.key for _, artifact in foresee(schedule(search), ONE_THREAD, find)]
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
