"""A distillation in parts, each of which goes on from the one before, as if it had never been broken off."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tiny_runs import Told, changed, executor, search_of, tiny_experiment, weights_of

from raydisc.stages.files import read_table
from raydisc.testing.runs import ONE_THREAD
from raydisc.testing.stages import Example, StageContract

pytestmark = pytest.mark.integration

BUDGET = 2.0e8
SHARES = (0.25, 0.5, None)


@cache
def storage() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="raydisc-")


def distilled(*shares, **settings):
    """The requests for a student in parts that end at these shares, with their artifacts, and the store."""
    base = tiny_experiment()
    search = search_of(tiny_experiment(distillation=changed(base.distillation, **settings)))
    told = Told()
    run = executor(Path(storage().name), told)

    def steps():
        ready = yield from search.prepare()
        before = None
        for share in shares:
            before = yield from search.distil(
                ready, ready.teacher, ready.teacher, search.student_scale, BUDGET, until=share, before=before
            )

    run.run(steps())
    return [(request, artifact) for request, artifact, _ in told.stages if request.kind == "distil"], run.store


@pytest.mark.parametrize("dropout", [0.0, None])
def test_parts_give_the_bits_of_the_undivided_training(dropout):
    """With moments, the decay of unused words, draws of dropout, and a learning rate that falls over the whole."""
    settings = {"dropout": dropout, "weight_decay": 0.1, "warmup": 0.4}
    [(_, whole)], store = distilled(None, **settings)
    parts = [artifact for _, artifact in distilled(*SHARES, **settings)[0]]
    assert weights_of(store, parts[-1]) == weights_of(store, whole)
    assert parts[-1]["evaluations"] == whole["evaluations"]
    steps = [part["steps"] for part in parts]
    assert steps == [whole["steps"] // 4, whole["steps"] // 2, whole["steps"]]
    assert steps[0] > 2
    evaluation = sum(part.flops for part in parts) - whole.flops
    assert 0 < evaluation < 0.2 * whole.flops, "each part has its own steps, and an evaluation that the whole has once"


def test_a_part_is_evaluated_at_its_end_and_keeps_its_predictions():
    first, _, last = [artifact for _, artifact in distilled(*SHARES, patience=3, epochs=4.0)[0]]
    [(_, whole)], store = distilled(None, patience=3, epochs=4.0)
    assert len(whole["evaluations"]) > 1
    for part in (first, last):
        assert [row["step"] for row in part["evaluations"]] == [None]
        assert len(read_table(store, part, "predictions.arrow")) == 60
    assert "state.safetensors" in first.blobs
    assert "state.safetensors" not in last.blobs


def test_keys_of_undivided_trainings_do_not_know_of_parts():
    [(whole, _)], _ = distilled(None)
    assert not {"until", "before"} & whole.settings().keys()
    keys = [request.key(ONE_THREAD) for request, _ in distilled(*SHARES)[0]]
    assert len({*keys, whole.key(ONE_THREAD)}) == 4


def test_parts_are_named_for_people():
    labels = [request.label() for request, _ in distilled(*SHARES)[0]]
    assert labels == ["teacher → 0.25, to 25.0% of its steps", "teacher → 0.25, to 50.0% of its steps",
                      "teacher → 0.25, to the end"]  # fmt: skip


class TestMiddlePart(StageContract):
    """Killed anywhere, a part that goes on from one and is broken off leaves what it would have left."""

    @pytest.fixture
    def example(self):
        stage, artifact = distilled(*SHARES)[0][1]
        return Example(stage, artifact, Path(storage().name))
