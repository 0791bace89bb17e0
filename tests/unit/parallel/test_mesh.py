"""How many copies of the weights, in how many parts."""

import pytest

from raydisc.errors import InputError
from raydisc.parallel.mesh import Layout, fewest_workers, layout_of

GIB = 2**30


@pytest.mark.parametrize(
    ("parallel", "shard", "parameters", "wanted"),
    [
        ("data", None, 10**12, Layout(8, 1)),
        ("shard", None, 10, Layout(1, 8)),
        ("hybrid", 4, 10, Layout(2, 4)),
        ("auto", None, 110 * 10**6, Layout(8, 1)),
        ("auto", None, 11 * 10**9, Layout(1, 8)),
    ],
)
def test_layouts(parallel, shard, parameters, wanted):
    found = layout_of(8, parallel, shard, parameters, 80 * GIB)
    assert found == wanted
    assert found.workers == 8


@pytest.mark.parametrize("shard", [None, 3, 16])
def test_copies_that_do_not_divide_the_workers_are_refused(shard):
    with pytest.raises(InputError, match=r"copies of .* do not divide 8 workers; give one of 1, 2, 4, 8"):
        layout_of(8, "hybrid", shard, 10, GIB)


def test_as_many_workers_as_the_training_state_needs():
    needed = fewest_workers(11 * 10**9, 80 * GIB)
    assert needed == 3
    assert needed * 80 * GIB * 0.7 > 11 * 10**9 * 16 > (needed - 1) * 80 * GIB * 0.7
