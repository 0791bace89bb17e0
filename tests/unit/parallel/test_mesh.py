"""How many copies of the weights, in how many parts."""

import pytest

from raydisc.errors import InputError
from raydisc.parallel.mesh import Layout, layout_of
from raydisc.settings import ResourcesConfig

GIB = 2**30
BASE, XXL = 110 * 10**6, 11 * 10**9


@pytest.mark.parametrize(
    ("settings", "parameters", "wanted"),
    [
        ({"parallel": "data"}, BASE, Layout(8, 1)),
        ({"parallel": "shard"}, BASE, Layout(1, 8)),
        ({"parallel": "hybrid", "shard": 4}, BASE, Layout(2, 4)),
        ({"parallel": "auto"}, BASE, Layout(8, 1)),
        ({"parallel": "auto"}, XXL, Layout(1, 8)),
    ],
)
def test_layouts(settings, parameters, wanted):
    found = layout_of(ResourcesConfig(workers=8, **settings), parameters, 80 * GIB)
    assert found == wanted
    assert found.workers == 8


def test_a_model_that_does_not_fit_says_what_it_takes():
    with pytest.raises(InputError, match="164 GiB .* do not fit 2 devices of 80 GiB; it takes 3 workers"):
        layout_of(ResourcesConfig(workers=2), XXL, 80 * GIB)


@pytest.mark.parametrize(
    ("layout", "left", "wanted"),
    [
        (Layout(4, 1), 3, Layout(3, 1)),
        (Layout(1, 4), 3, Layout(1, 3)),
        (Layout(2, 4), 7, Layout(1, 4)),
        (Layout(2, 4), 3, Layout(1, 3)),
    ],
)
def test_a_gang_that_has_lost_workers_is_laid_out_alike(layout, left, wanted):
    assert layout.smaller(left) == wanted
