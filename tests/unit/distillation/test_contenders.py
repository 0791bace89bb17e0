"""Which assistants once-for-all still trains, and when their ranking has settled."""

import itertools

import pytest

from raydisc.distillation.contenders import Evaluated, Evaluation, Race, contenders, settled

SCALES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
RACE = Race(SCALES, lam=0.2, ceiling=0.9)


def evaluation(metrics, shares=None):
    """Metrics by scale; without shares the best by λ = 0.2 leads in every resample."""
    candidates = tuple(Evaluated(scale, metric) for scale, metric in metrics.items())
    best = max(metrics, key=lambda scale: metrics[scale] - 0.2 * scale)
    return Evaluation(candidates, dict.fromkeys(metrics, 0.0) | {best: 1.0} if shares is None else shares)


def flat(*scales, metric=0.8):
    """Equal metrics: the smaller has the better tradeoff."""
    return evaluation(dict.fromkeys(scales, metric))


def test_without_rules_everybody_is_trained_to_the_end():
    assert contenders(RACE, [], []) == list(SCALES)
    assert contenders(RACE, [], [flat(*SCALES), flat(*SCALES)]) == list(SCALES)


# ceiling


@pytest.mark.parametrize(
    ("scales", "half"),
    [(SCALES, (0.6, 0.5, 0.4, 0.3)), ((0.9, 0.5), (0.5,)), ((0.9, 0.7, 0.5), (0.7, 0.5)), ((0.5,), (0.5,))],
)
def test_ceiling_begins_with_the_smaller_half(scales, half):
    assert contenders(Race(scales, 0.2, 0.9), ["ceiling"], []) == list(half)


def test_ceiling_lets_those_in_that_would_win_if_they_were_as_good_as_the_teacher():
    found = evaluation({0.6: 0.84, 0.5: 0.84, 0.4: 0.82, 0.3: 0.75})
    # 0.5 and 0.4 both have 0.94; the smaller leads. A perfect 0.8 would have 0.94 too, but loses the tie.
    assert contenders(RACE, ["ceiling"], [found]) == [0.7, 0.6, 0.5, 0.4, 0.3]


def test_ceiling_leaves_those_out_that_could_not_win():
    found = evaluation({0.6: 0.84, 0.5: 0.88, 0.4: 0.89, 0.3: 0.75})
    # 0.4 has 1.01, which a perfect 0.5 (1.00) cannot reach and a perfect 0.3 (1.04) can
    assert contenders(RACE, ["ceiling"], [found]) == [0.4, 0.3]


def test_ceiling_lets_a_smaller_one_in_that_would_win_a_tie():
    race = Race((0.5, 0.3), 0.2, 0.86)
    assert contenders(race, ["ceiling"], [evaluation({0.5: 0.9, 0.3: 0.5})]) == [0.5, 0.3]
    assert contenders(Race((0.5, 0.3), 0.2, 0.859), ["ceiling"], [evaluation({0.5: 0.9, 0.3: 0.5})]) == [0.5]


def test_ceiling_keeps_a_leader_that_is_better_than_the_teacher():
    assert contenders(RACE, ["ceiling"], [evaluation({0.6: 0.84, 0.5: 1.0, 0.4: 0.8, 0.3: 0.7})]) == [0.5]


def test_ceiling_looks_at_the_last_evaluation():
    """One that was left out comes back where the leader has become worse."""
    sure, unsure = evaluation({0.6: 0.84, 0.5: 0.88, 0.4: 0.89, 0.3: 0.75}), evaluation({0.4: 0.8, 0.3: 0.75})
    assert contenders(RACE, ["ceiling"], [sure, unsure]) == [0.8, 0.7, 0.6, 0.5, 0.4, 0.3]


def test_without_weight_on_size_ceiling_leaves_nobody_out_who_may_be_better():
    race = Race(SCALES, 0.0, 0.9)
    assert contenders(race, ["ceiling"], [flat(0.6, 0.5, 0.4, 0.3)]) == list(SCALES)
    assert contenders(race, ["ceiling"], [flat(0.6, 0.5, 0.4, 0.3, metric=0.9)]) == [0.3]


# halving


def test_halving_keeps_the_better_half_until_one_is_left():
    metrics = {0.9: 0.9, 0.8: 0.6, 0.7: 0.88, 0.6: 0.5, 0.5: 0.85, 0.4: 0.5, 0.3: 0.83}
    assert contenders(RACE, ["halving"], []) == list(SCALES)
    # by tradeoff: 0.3 (0.97), 0.5 (0.95), 0.7 (0.94), 0.9 (0.92), then the others
    first = evaluation(metrics)
    assert contenders(RACE, ["halving"], [first]) == [0.9, 0.7, 0.5, 0.3]
    second = evaluation({scale: metrics[scale] for scale in (0.9, 0.7, 0.5, 0.3)})
    assert contenders(RACE, ["halving"], [first, second]) == [0.5, 0.3]
    third = evaluation({0.5: 0.9, 0.3: 0.8})
    assert contenders(RACE, ["halving"], [first, second, third]) == [0.5]
    assert contenders(RACE, ["halving"], [first, second, third, evaluation({0.5: 0.1})]) == [0.5]


# neighbourhood


@pytest.mark.parametrize(
    ("scales", "start"),
    [(SCALES, (0.9, 0.7, 0.5, 0.3)), (SCALES[1:], (0.7, 0.5, 0.3)), ((0.9, 0.5), (0.5,)), ((0.5,), (0.5,))],
)
def test_neighbourhood_begins_with_every_second_down_to_the_smallest(scales, start):
    assert contenders(Race(scales, 0.2, 0.9), ["neighbourhood"], []) == list(start)


@pytest.mark.parametrize(
    ("best", "kept"), [(0.9, (0.9, 0.8)), (0.7, (0.8, 0.7, 0.6)), (0.5, (0.6, 0.5, 0.4)), (0.3, (0.4, 0.3))]
)
def test_neighbourhood_goes_on_with_the_best_and_those_next_to_it(best, kept):
    found = evaluation({scale: 0.99 if scale == best else 0.5 for scale in (0.9, 0.7, 0.5, 0.3)})
    assert contenders(RACE, ["neighbourhood"], [found]) == list(kept)


def test_neighbourhood_moves_with_the_best():
    first = evaluation({0.9: 0.5, 0.7: 0.9, 0.5: 0.5, 0.3: 0.5})
    second = evaluation({0.8: 0.5, 0.7: 0.6, 0.6: 0.9})
    assert contenders(RACE, ["neighbourhood"], [first, second]) == [0.7, 0.6, 0.5]


# several


def test_each_of_several_rules_must_let_a_candidate_be_trained():
    assert contenders(RACE, ["ceiling", "neighbourhood"], []) == [0.5, 0.3]
    found = evaluation({0.5: 0.88, 0.3: 0.86})
    # the neighbours of 0.3 are itself and 0.4; a perfect 0.4 (1.02) would beat its 1.00
    assert contenders(RACE, ["ceiling", "neighbourhood"], [found]) == [0.4, 0.3]
    # it would not beat 1.03
    assert contenders(RACE, ["ceiling", "neighbourhood"], [evaluation({0.5: 0.88, 0.3: 0.89})]) == [0.3]
    assert contenders(RACE, ["ceiling", "halving"], [flat(0.6, 0.5, 0.4, 0.3)]) == [0.4, 0.3]


@pytest.mark.parametrize("count", [2, 3])
def test_the_order_of_rules_does_not_matter_and_the_best_stays(count):
    evaluations = [evaluation({0.6: 0.8, 0.5: 0.85, 0.4: 0.7, 0.3: 0.8}), evaluation({0.5: 0.9, 0.4: 0.7, 0.3: 0.78})]
    for rules in itertools.combinations(("ceiling", "halving", "neighbourhood"), count):
        for seen in (evaluations[:1], evaluations):
            found = {tuple(contenders(RACE, order, seen)) for order in itertools.permutations(rules)}
            assert len(found) == 1
            assert 0.5 in found.pop()


# settled


ALIKE = {0.7: 0.5, 0.5: 0.5}


def test_one_evaluation_settles_nothing():
    assert not settled(RACE, [], 0.0)
    assert not settled(RACE, [flat(*SCALES)], -1.0)


def test_two_rankings_alike_with_one_leader_are_settled():
    assert settled(RACE, [flat(*SCALES, metric=0.5), flat(*SCALES, metric=0.9)], 1.0)


def test_the_correlation_of_the_last_two_rankings_decides():
    """Six pairs, of which one is the other way round: τ is 2/3."""
    before = evaluation({0.6: 0.99, 0.5: 0.80, 0.4: 0.70, 0.3: 0.6})
    after = evaluation({0.6: 0.99, 0.5: 0.80, 0.4: 0.70, 0.3: 0.7})
    assert settled(RACE, [before, after], 0.66)
    assert not settled(RACE, [before, after], 0.67)
    assert settled(RACE, [flat(*SCALES), before, before], 1.0)
    assert not settled(RACE, [before, before, after], 0.67)


def test_the_ranking_is_by_the_tradeoff_not_the_metric():
    """The metrics are the same way round; what they add up to with the size is not."""
    before = evaluation({0.5: 0.80, 0.3: 0.79}, {0.5: 0.5, 0.3: 0.5})
    after = evaluation({0.5: 0.90, 0.3: 0.80}, {0.5: 0.5, 0.3: 0.5})
    assert not settled(RACE, [before, after], 0.0)
    assert settled(Race(SCALES, 0.0, 0.9), [before, after], 1.0)


@pytest.mark.parametrize("share", [0.04, 0.05])
@pytest.mark.parametrize("sure", ["before", "after"])
def test_another_leader_must_have_been_possible_on_both_sides(share, sure):
    """A twentieth of the resamples in which it leads is possible enough."""
    metrics = {"before": {0.7: 0.82, 0.5: 0.77, 0.3: 0.1}, "after": {0.7: 0.82, 0.5: 0.79, 0.3: 0.1}}
    shares = {side: {0.7: 0.5, 0.5: 0.5, 0.3: 0.0} for side in metrics}
    shares[sure] = {0.7: 1 - share, 0.5: share} if sure == "before" else {0.7: share, 0.5: 1 - share}
    found = [evaluation(metrics[side], shares[side]) for side in ("before", "after")]
    assert settled(RACE, found, 0.3) == (share == 0.05)


def test_a_leader_that_was_not_there_before_settles_nothing():
    before, after = flat(0.7, 0.5, metric=0.5), evaluation({0.7: 0.5, 0.5: 0.5, 0.3: 0.9})
    assert not settled(RACE, [before, after], -1.0)


def test_the_only_one_in_both_is_settled_and_ties_are_not():
    assert settled(RACE, [flat(0.5, 0.3), flat(0.3)], 1.0)
    race = Race(SCALES, 0.0, 0.9)
    level = Evaluation(flat(0.7, 0.5).candidates, ALIKE)
    assert not settled(race, [level, level], 0.0)
