from collections import Counter

import pytest

from raydisc.distillation.sandwich import sandwich
from raydisc.models.widths import Widths
from raydisc.supernet.grid import Candidate

SCALES = (0.3, 0.9, 0.5, 0.1, 0.7, 0.2)
CANDIDATES = [Candidate(scale, Widths((1,), (1,))) for scale in SCALES]


def scales(rule, seed=0, step=0, candidates=CANDIDATES):
    return [candidate.scale for candidate in sandwich(candidates, rule, seed, step)]


def test_all_trains_every_candidate_largest_first():
    assert scales("all") == [0.9, 0.7, 0.5, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("between", [0, 1, 2, 4, 9])
def test_largest_and_smallest_are_always_there(between):
    for step in range(50):
        drawn = scales(between, step=step)
        assert drawn[0] == 0.9
        assert drawn[-1] == 0.1
        assert len(drawn) == 2 + min(between, 4)
        assert drawn == sorted(set(drawn), reverse=True)


def test_the_middle_is_drawn_evenly():
    drawn = Counter(scale for step in range(2000) for scale in scales(1, step=step)[1:-1])
    assert set(drawn) == {0.7, 0.5, 0.3, 0.2}
    assert min(drawn.values()) > 400


def test_the_draw_follows_seed_and_step_alone():
    steps = [scales(2, seed=3, step=step) for step in range(30)]
    assert [scales(2, seed=3, step=step) for step in reversed(range(30))] == steps[::-1]
    assert scales(2, seed=3, step=4, candidates=CANDIDATES[::-1]) == steps[4]
    assert [scales(2, seed=4, step=step) for step in range(30)] != steps
    assert len({tuple(step) for step in steps}) > 3


@pytest.mark.parametrize("rule", ["all", 0, 3])
def test_one_or_two_candidates(rule):
    assert scales(rule, candidates=CANDIDATES[:1]) == [0.3]
    assert scales(rule, candidates=CANDIDATES[:2]) == [0.9, 0.3]
