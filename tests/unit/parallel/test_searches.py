"""Importance and whole searches by several workers: the same scores, order, assistant and metrics."""

import functools

import numpy as np
import pytest
from searches import scored, searched
from tiny_models import FAMILIES
from tiny_runs import ARCHITECTURE, NO_DROPOUT, changed, tiny_experiment
from tolerance import close, seen
from workers import run_workers

from raydisc.parallel.mesh import Layout
from raydisc.parallel.place import ALONE
from raydisc.stages.context import tensor_views
from raydisc.stages.store import ArtifactStore


@pytest.mark.parametrize("layout", [Layout(2, 1), Layout(1, 2), Layout(2, 2)], ids=str)
def test_workers_score_and_sort_units_as_one_does(tmp_path, layout):
    (tmp_path / "alone").mkdir()
    (tmp_path / "together").mkdir()
    alone = scored(ALONE, tmp_path / "alone", FAMILIES)
    for found in run_workers(layout, scored, tmp_path / "meet", tmp_path / "together", FAMILIES):
        for family in FAMILIES:
            for scores, wanted in zip(found[family][:2], alone[family][:2], strict=True):
                assert np.linalg.norm(scores - wanted) <= 1e-5 * np.linalg.norm(wanted)
            assert found[family][2] == alone[family][2]
    for family in FAMILIES:
        written, wanted = ((tmp_path / place / f"{family}.safetensors") for place in ("together", "alone"))
        assert written.read_bytes() == wanted.read_bytes()


def experiment(metric):
    """Without dropout, whose draws differ with the shares."""
    base = tiny_experiment()
    teacher = changed(base.teacher, architecture=ARCHITECTURE | NO_DROPOUT)
    return tiny_experiment(task=changed(base.task, metric=metric), teacher=teacher)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    @functools.cache
    def alone(metric):
        storage = tmp_path_factory.mktemp("alone")
        return searched(ALONE, storage, experiment(metric)), ArtifactStore(storage)

    return alone


@pytest.mark.integration
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
            close(mine_seen, theirs_seen, 1e-3)
