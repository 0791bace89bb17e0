"""Stages that die and go on: the same bits, the same FLOPs, nothing left behind."""

import shutil
from dataclasses import replace

import pytest
from tiny_runs import Told, changed, executor, search_of, tiny_experiment, weights_of
from tiny_schedules import along, minidisc

from raydisc.errors import NonFiniteLoss
from raydisc.testing.runs import ARCHITECTURE
from raydisc.training.checkpoint import load
from raydisc.training.progress import StepsDone

pytestmark = pytest.mark.integration


class Killed(BaseException):
    """What a killed process looks like from inside."""


def experiment():
    """With dropout, early stopping and evaluations in between: all that a checkpoint must hold."""
    base = tiny_experiment()
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    return base.model_copy(
        update={
            "teacher": changed(base.teacher, architecture=ARCHITECTURE | dropout),
            "once_for_all": changed(base.once_for_all, epochs=2.0, patience=5, evaluations=6),
            "distillation": changed(base.distillation, epochs=2.0, patience=5),
        }
    )


@pytest.fixture(scope="module")
def search():
    return search_of(experiment())


@pytest.fixture(scope="module")
def straight(search, tmp_path_factory):
    told = Told()
    run = executor(tmp_path_factory.mktemp("straight"), told)
    return run.run(minidisc(search, 0.2, 1, False)), told, run.store


@pytest.mark.parametrize("stage", ["finetune", "once_for_all", "distil"])
def test_a_stage_that_was_killed_goes_on(search, straight, tmp_path, stage):
    outcome, told, store = straight

    def progress(found):
        if found.stage == stage and found.step == 7:
            raise Killed

    with pytest.raises(Killed):
        executor(tmp_path, progress=progress, checkpoint_every_s=0.0).run(minidisc(search, 0.2, 1, False))
    [folder] = (tmp_path / "artifacts").glob("*.partial")
    assert load(folder).step == 6
    resumed, again = Told(), []
    run = executor(tmp_path, resumed, again.append)
    found = run.run(minidisc(search, 0.2, 1, False))
    assert resumed.keys == told.keys
    assert resumed.computed[0] == stage
    steps = [found.event.step for found in again if found.stage == stage and isinstance(found.event, StepsDone)]
    assert steps[:2] == [0, 7]  # it did not begin again
    for mine, theirs in zip(resumed.stages, told.stages, strict=True):
        assert mine[1].facts == theirs[1].facts
        assert mine[1].cost.flops == theirs[1].cost.flops
        assert mine[1].blobs == theirs[1].blobs
    assert weights_of(run.store, found.student) == weights_of(store, outcome.student)
    assert sorted(path.name for path in (tmp_path / "artifacts").iterdir()) == sorted(set(told.keys))


def test_a_best_evaluation_before_the_kill_is_not_paid_twice(search, tmp_path):
    """Steps too small to move anything: the first evaluation stays the best, and its process dies."""
    still = changed(search.experiment.distillation, lr=1e-12)
    still = replace(search, experiment=search.experiment.model_copy(update={"distillation": still}))

    def progress(found):
        if found.stage == "distil" and found.step == 10:
            raise Killed

    executor(tmp_path / "straight").run(still.prepare())
    shutil.copytree(tmp_path / "straight", tmp_path / "killed")
    with pytest.raises(Killed):
        executor(tmp_path / "killed", progress=progress, checkpoint_every_s=0.0).run(along(still, ()))
    found, expected = (executor(tmp_path / name).run(along(still, ())).student for name in ("killed", "straight"))
    assert [row["step"] for row in expected["evaluations"]] == [7, 14, None]
    assert found.facts == expected.facts
    assert found.cost.flops == expected.cost.flops
    assert found.blobs == expected.blobs


def test_the_seconds_before_the_kill_are_counted(search, tmp_path, monkeypatch):
    """A stage that went on costs what it would have cost undisturbed, not the rest of it."""
    import time

    def slow(found):
        if found.stage == "finetune":
            time.sleep(0.01)
            if found.step == 40:
                raise Killed

    with pytest.raises(Killed):
        executor(tmp_path, progress=slow, checkpoint_every_s=0.0).run(search.prepare())
    told = Told()
    executor(tmp_path, told).run(search.prepare())
    [teacher] = [artifact for request, artifact, _ in told.stages if request.kind == "finetune"]
    assert teacher.cost.wall_seconds == teacher.cost.device_seconds > 0.39
    assert teacher.cost.cpu_seconds > 0


def test_a_loss_that_is_not_finite_stops_the_stage_and_keeps_its_checkpoint(tmp_path):
    """Exploding on purpose: a learning rate that no training survives."""
    base = experiment()
    config = changed(base.once_for_all, lr=1e30, max_grad_norm=1e30, warmup=0.5, epochs=4.0, patience=None)
    search = search_of(base.model_copy(update={"once_for_all": config}))
    with pytest.raises(
        NonFiniteLoss, match=r"once_for_all: the .* at step \d+ of 28; the checkpoint of step \d+ is kept"
    ):
        executor(tmp_path, checkpoint_every_s=0.0).run(minidisc(search, 0.2, 1, False))
    [folder] = (tmp_path / "artifacts").glob("*.partial")
    kept = load(folder)
    assert kept is not None
    assert kept.step >= 1
