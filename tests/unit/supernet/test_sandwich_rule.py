from collections import Counter

import numpy as np
import pytest

from raydisc.config.sections import SandwichConfig
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.sandwich import even_rows, sandwich

SCALES = (0.3, 0.9, 0.5, 0.1, 0.7, 0.2)
CANDIDATES = [Candidate(scale, Widths((1,), (1,))) for scale in SCALES]
EVEN = dict.fromkeys(SCALES, 1.0)


def rule(**values):
    return SandwichConfig(**{"slices": False} | values)


def shares(rule, seed=0, step=0, candidates=CANDIDATES, chances=EVEN):
    return sandwich(candidates, rule, chances, seed, step)


def scales(*args, **named):
    return [share.candidate.scale for share in shares(*args, **named)]


def drawn(rule, chances=EVEN, steps=2000):
    """How often each scale is in a step."""
    return Counter(scale for step in range(steps) for scale in scales(rule, step=step, chances=chances))


def test_all_trains_every_candidate_largest_first():
    assert scales("all") == [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("middle", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("largest", [False, True])
def test_the_smallest_is_always_there_and_the_largest_where_asked_for(middle, largest):
    for step in range(50):
        found = scales(rule(middle=middle, largest=largest), step=step)
        assert found[-1] == 0.1
        assert len(found) == (2 + min(middle, 4) if largest else 1 + min(middle, 5))
        assert found[0] == 0.9 or not largest
        assert found == sorted(set(found), reverse=True)


def test_by_default_one_beside_the_smallest_is_drawn_evenly():
    found = drawn(rule())
    assert found.pop(0.1) == 2000
    assert set(found) == {0.9, 0.7, 0.5, 0.3, 0.2}
    assert sum(found.values()) == 2000
    assert min(found.values()) > 320


def test_between_largest_and_smallest_the_draw_is_even():
    found = drawn(rule(largest=True))
    assert (found.pop(0.9), found.pop(0.1)) == (2000, 2000)
    assert set(found) == {0.7, 0.5, 0.3, 0.2}
    assert min(found.values()) > 400


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e6])
def test_candidates_are_drawn_by_their_chances_of_any_magnitude(unit):
    """An inverse of FLOPs is as small as 1e-9."""
    weights = {0.9: 1.0, 0.7: 1.0, 0.5: 2.0, 0.3: 4.0, 0.2: 8.0}
    found = drawn(rule(), {scale: weight * unit for scale, weight in weights.items()} | {0.1: 5.0 * unit})
    for scale, weight in weights.items():
        assert found[scale] / 2000 == pytest.approx(weight / 16, abs=0.03)


def test_the_draw_follows_seed_and_step_alone():
    two = rule(middle=2)
    steps = [scales(two, seed=3, step=step) for step in range(30)]
    assert [scales(two, seed=3, step=step) for step in reversed(range(30))] == steps[::-1]
    assert scales(two, seed=3, step=4, candidates=CANDIDATES[::-1]) == steps[4]
    assert [scales(two, seed=4, step=step) for step in range(30)] != steps
    assert len({tuple(step) for step in steps}) > 3


def test_only_those_that_are_still_trained_are_drawn():
    live = [candidate for candidate in CANDIDATES if candidate.scale in (0.5, 0.3, 0.1)]
    found = Counter(scale for step in range(200) for scale in scales(rule(), step=step, candidates=live))
    assert found[0.1] == 200
    assert found[0.5] + found[0.3] == 200
    assert min(found[0.5], found[0.3]) > 60


@pytest.mark.parametrize("rule", ["all", rule(middle=0, largest=True), rule(middle=3), rule(slices=True)])
def test_one_or_two_candidates(rule):
    assert scales(rule, candidates=CANDIDATES[:1]) == [0.3]
    assert scales(rule, candidates=CANDIDATES[:2]) == [0.9, 0.3]


@pytest.mark.parametrize("rule", ["all", rule(middle=2)])
def test_everybody_sees_the_whole_batch(rule):
    assert {(share.rows.start, share.rows.stop, share.rows.step) for share in shares(rule)} == {(None, None, None)}


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 32])
def test_slices_share_the_batch_out(rows):
    """Every row once, evenly, short and long alike; of too few rows the smallest candidate has one."""
    for step in range(10):
        found = [
            (share.candidate.scale, np.arange(rows)[share.rows])
            for share in shares(rule(middle=3, slices=True), step=step)
        ]
        assert sorted(np.concatenate([own for _, own in found]).tolist()) == list(range(rows))
        sizes = [len(own) for _, own in found]
        assert max(sizes) - min(sizes) <= 1
        assert [scale for scale, _ in found] == scales(rule(middle=3), step=step)
        assert len(found[-1][1]) >= 1
        assert all(np.ptp(own) >= rows - 2 * len(found) for own in (own for _, own in found) if rows > 8)


@pytest.mark.parametrize(
    ("count", "fraction", "rows"),
    [(8, 1.0, range(8)), (8, 0.5, [1, 3, 5, 7]), (8, 0.75, [0, 2, 3, 4, 6, 7]), (3, 0.01, [1]), (1, 0.9, [0])],
)
def test_some_of_a_batch_are_rows_of_all_lengths(count, fraction, rows):
    assert np.arange(count)[even_rows(count, fraction)].tolist() == list(rows)
