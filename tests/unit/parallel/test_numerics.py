"""Several workers compute what one does, and talk once a step."""

import pytest
from lessons import SCALES, everything, gradients, narrow_trained
from tiny_models import FAMILIES, KINDS, tiny_config
from workers import run_workers

from raydisc.parallel.mesh import Layout
from raydisc.parallel.rank import ALONE
from raydisc.testing.tolerance import assert_all_near, seen

pytestmark = pytest.mark.integration

SUBJECTS = (*FAMILIES, "mt5 tags")
BOTH = ("adamw", "sgd")
TWO = [(Layout(2, 1), SUBJECTS, BOTH), (Layout(1, 2), SUBJECTS, BOTH)]
FOUR = [(Layout(4, 1), ()), (Layout(1, 4), ()), (Layout(2, 2), ("sgd",))]
"""Four workers do to a family what two do to it, so that one family of each kind is always run."""


def groups(family):
    """Of weights that are gathered together: a layer each and T5's decoder, the words, and all the rest."""
    return tiny_config().num_hidden_layers + 2 + family.endswith("t5")


def once(layout, family):
    """What a step communicates."""
    gathered = dict.fromkeys(("_allgather_base_", "_reduce_scatter_base_"), groups(family))
    copies = {"allreduce_": 1 if layout.shard == 1 else groups(family)}
    return (gathered if layout.shard > 1 else {}) | (copies if layout.replicate > 1 else {})


@pytest.fixture(scope="module")
def alone():
    return everything(ALONE, SUBJECTS, BOTH)


@pytest.mark.parametrize(
    ("layout", "families", "optimisers"),
    [
        *TWO,
        *((layout, (*KINDS, "mt5 tags"), optimisers) for layout, optimisers in FOUR),
        *(pytest.param(layout, SUBJECTS, optimisers, marks=pytest.mark.slow) for layout, optimisers in FOUR),
    ],
    ids=lambda it: str(it) if isinstance(it, Layout) else "",
)
def test_workers_give_the_losses_and_gradients_of_one(alone, tmp_path, layout, families, optimisers):
    """Of uneven shares, of a candidate that has no row for some workers, of layers without heads or neurons."""
    for found in run_workers(layout, everything, tmp_path, families, optimisers):
        for family in families:
            loss, grads, told = found[family, "step"]
            assert loss == pytest.approx(alone[family, "step"][0], rel=1e-5)
            assert_all_near(grads, alone[family, "step"][1])
            assert told == once(layout, family)
            for optimiser in optimisers if family in KINDS else ():
                losses, weights = found[family, optimiser]
                wanted_losses, wanted_weights = alone[family, optimiser]
                assert losses == pytest.approx(wanted_losses, rel=1e-5)
                assert_all_near(seen(weights), seen(wanted_weights), 1e-4 if optimiser == "adamw" else 1e-5)


def test_workers_with_little_memory_synchronise_for_each_candidate(alone, tmp_path):
    for loss, grads, told in run_workers(Layout(1, 2, once=False), gradients, tmp_path, "bert"):
        assert loss == pytest.approx(alone["bert", "step"][0], rel=1e-5)
        assert_all_near(grads, alone["bert", "step"][1])
        assert told["_reduce_scatter_base_"] == groups("bert") * len(SCALES)
        assert told["_allgather_base_"] > groups("bert") * len(SCALES)


@pytest.mark.parametrize("family", ["bert", "mt5"])
def test_a_student_with_layers_that_have_lost_all_units_is_trained_in_shards(tmp_path, family):
    losses, weights = narrow_trained(ALONE, family, tmp_path / "alone")
    for found_losses, found in run_workers(Layout(1, 2), narrow_trained, tmp_path, family, tmp_path / "together"):
        assert found_losses == pytest.approx(losses, rel=1e-5)
        assert_all_near(seen(found), seen(weights), 1e-4)
