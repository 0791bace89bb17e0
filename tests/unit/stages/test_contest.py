"""The contest between the supernet's candidates: who is still trained, and when it is decided."""

import json

import numpy as np
import pytest

from raydisc.experiment import OnceForAllConfig
from raydisc.models.widths import Widths
from raydisc.stages.artifact import Artifact
from raydisc.stages.contest import Contest
from raydisc.stages.requests import Objective, OnceForAll
from raydisc.supernet.grid import Candidate

STUDENT = 0.1
SCALES = (0.9, 0.7, 0.5, 0.3, STUDENT)
ROWS = 100
LABELS = np.zeros(ROWS, dtype=np.int64)


def request(lam=0.2, ceiling=0.9, scales=SCALES, **values):
    return OnceForAll(
        data=Artifact("d", "tokenise", facts={"metric": "accuracy"}),
        outputs=Artifact("o", "teacher_outputs"),
        importance=Artifact("i", "importance", facts={"teacher_metric": ceiling}),
        scales=scales,
        config=OnceForAllConfig(**{"narrow": []} | values),
        objective=Objective((), 1.0, "uniform"),
        seed=0,
        lam=lam,
    )


def contest(so_far=(), **values):
    asked = request(**values)
    candidates = [Candidate(scale, Widths((1,), (1,))) for scale in asked.scales]
    return Contest(asked, candidates, LABELS, so_far)


def live(contest):
    return [candidate.scale for candidate in contest.live]


def judge(contest, right):
    """Judge the live candidates, of which each has so many rows of a hundred right, the first ones; as a checkpoint
    would remember the evaluation."""
    predictions = {}
    for scale in live(contest):
        logits = np.zeros((ROWS, 2), np.float32)
        logits[np.arange(ROWS), (np.arange(ROWS) >= right[scale]).astype(int)] = 1.0
        predictions[scale] = logits
    rows = [{"scale": scale, "metric": right[scale] / ROWS} for scale in live(contest)]
    rows, decided = contest.judge(rows, predictions)
    return json.loads(json.dumps({"candidates": rows, "finished": decided}))


BETTER_IS_LARGER = {0.9: 88, 0.7: 86, 0.5: 84, 0.3: 82, STUDENT: 10}
CLEAR = {0.9: 50, 0.7: 60, 0.5: 85, 0.3: 40, STUDENT: 10}


def test_without_lambda_everybody_is_trained_to_the_end():
    found = contest(lam=None, narrow=["ceiling", "halving"], settled=0.0)
    for _ in range(3):
        assert live(found) == list(SCALES)
        assert not judge(found, CLEAR)["finished"]


@pytest.mark.parametrize("rules", [["ceiling"], ["halving"], ["neighbourhood"], ["ceiling", "halving"]])
def test_the_student_is_trained_to_the_end_and_decides_nothing(rules):
    """Its metric is the highest by far, and it is ranked nowhere."""
    found = contest(narrow=rules)
    for _ in range(4):
        assert live(found)[-1] == STUDENT
        evaluation = judge(found, CLEAR | {STUDENT: 100})
    assert 0.5 in live(found)
    assert [row["share"] for row in evaluation["candidates"] if row["scale"] == STUDENT] == [None]


def test_the_ceiling_is_the_teachers_metric():
    found = contest(narrow=["ceiling"])
    assert live(found) == [0.5, 0.3, STUDENT]
    # 0.3 has 0.96; 0.9 + 0.2 (1 - s) is above that where s is below 0.7
    judge(found, BETTER_IS_LARGER)
    assert live(found) == [0.5, 0.3, STUDENT]
    better_teacher = contest(narrow=["ceiling"], ceiling=0.93)
    judge(better_teacher, BETTER_IS_LARGER)
    assert live(better_teacher) == [0.7, 0.5, 0.3, STUDENT]


def test_lambda_decides():
    found = contest(narrow=["halving"], lam=0.0)
    judge(found, BETTER_IS_LARGER)
    assert live(found) == [0.9, 0.7, STUDENT]
    found = contest(narrow=["halving"], lam=10.0)
    judge(found, BETTER_IS_LARGER)
    assert live(found) == [0.5, 0.3, STUDENT]


def test_shares_of_wins_are_by_the_tradeoff_of_the_validation_rows():
    found = contest(settled=1.0)
    rows = judge(found, CLEAR)["candidates"]
    assert {row["scale"]: row["share"] for row in rows} == {0.9: 0, 0.7: 0, 0.5: 1, 0.3: 0, STUDENT: None}
    close = judge(contest(settled=1.0), BETTER_IS_LARGER | {0.5: 86, 0.3: 82})["candidates"]
    shares = {row["scale"]: row["share"] for row in close}
    assert sum(share for share in shares.values() if share is not None) == pytest.approx(1.0)
    assert min(shares[0.5], shares[0.3]) > 0.3


def test_a_contest_goes_on_where_it_was():
    """Made anew from what a checkpoint remembers it is as it was, after each evaluation."""
    for rules in (["ceiling"], ["halving"], ["neighbourhood"]):
        whole, so_far = contest(narrow=rules, settled=0.9), []
        assert live(contest(so_far, narrow=rules, settled=0.9)) == live(whole)
        for right in (BETTER_IS_LARGER, CLEAR, CLEAR, CLEAR):
            so_far.append(judge(whole, right))
            assert live(contest(so_far, narrow=rules, settled=0.9)) == live(whole)
            if so_far[-1]["finished"]:
                break


def test_it_is_decided_by_two_evaluations_alike():
    found = contest(settled=0.9)
    assert [judge(found, right)["finished"] for right in (CLEAR, BETTER_IS_LARGER, BETTER_IS_LARGER)] == [
        False, False, True,
    ]  # fmt: skip
    assert not any(judge(found, CLEAR)["finished"] for found in [contest()] * 3)


def test_those_of_the_evaluation_that_ends_it_were_trained_to_the_end():
    """Halving would go on; nobody that was just evaluated counts as left out."""
    found = contest(narrow=["halving"], settled=0.5)
    first = judge(found, CLEAR)
    assert live(found) == [0.7, 0.5, STUDENT]
    second = judge(found, CLEAR)
    assert (first["finished"], second["finished"]) == (False, True)
    assert live(found) == live(contest([first, second], narrow=["halving"], settled=0.5)) == [0.7, 0.5, STUDENT]


def test_it_is_not_decided_while_somebody_comes_in():
    """Both evaluations rank alike, but by the second a larger one could win, which was not trained yet."""
    found = contest(narrow=["ceiling"], settled=1.0)
    assert not judge(found, {0.5: 88, 0.3: 86, STUDENT: 10})["finished"]
    assert live(found) == [0.3, STUDENT]
    assert not judge(found, {0.3: 60, STUDENT: 10})["finished"]
    assert live(found) == list(SCALES)
    # all of them again, the larger ones far behind
    assert not judge(found, {0.9: 60, 0.7: 60, 0.5: 88, 0.3: 80, STUDENT: 10})["finished"]
    assert judge(found, {0.9: 60, 0.7: 60, 0.5: 88, 0.3: 80, STUDENT: 10})["finished"]


def test_a_student_without_assistants_has_no_contest():
    found = contest(scales=(STUDENT,), narrow=["ceiling"], settled=0.0)
    assert live(found) == [STUDENT]
    assert not judge(found, {STUDENT: 10})["finished"]
