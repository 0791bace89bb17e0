"""How many copies of the weights, in how many parts."""

import pytest

from raydisc.parallel.mesh import Layout


@pytest.mark.parametrize(
    ("layout", "left", "wanted"),
    [
        (Layout(4, 1), 3, Layout(3, 1)),
        (Layout(1, 4), 3, Layout(1, 3)),
        (Layout(2, 4), 7, Layout(1, 4)),
        (Layout(2, 4), 3, Layout(1, 3)),
        (Layout(1, 4, once=False), 2, Layout(1, 2, once=False)),
    ],
)
def test_a_gang_that_has_lost_workers_is_laid_out_alike(layout, left, wanted):
    assert layout.smaller(left) == wanted
