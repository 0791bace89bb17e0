"""Effects that controls tell apart: their intervals, their sentences, and the conclusion."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ledger_world import World

from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.conclusion import conclusions
from raydisc.report.differences import schedules_compared
from raydisc.report.effects import EstimatedEffect, judge, sentences
from raydisc.report.html import html_report
from raydisc.report.intervals import LEVEL
from raydisc.report.show import show
from raydisc.report.show_tables import render_show
from raydisc.report.tables import comparison_markdown, print_comparison

ROWS = 400
ALIKE = {
    "minidisc": 0.8, "kd_equal_compute": 0.8, "kd_from_supernet": 0.8, "takd_smallest": 0.8, "kd_from_assistant": 0.8,
    "takd_middle": 0.8,
}  # fmt: skip


def hits(share: float, shift: int) -> list[int]:
    """Rows of which a share is right; another shift moves the wrong ones to other rows."""
    wrong = ROWS - round(share * ROWS)
    return [0 if (row - shift) % ROWS < wrong else 1 for row in range(ROWS)]


def fill(
    world: World,
    accuracies: Mapping[str, float | Sequence[float]],
    teachers: Sequence[int | None] = (None,),
    seeds: Sequence[int] = (0,),
    **fields: Any,
) -> World:
    """A trial of each label by each teacher and seed, with this accuracy on the test rows, or one for each of them."""
    for label, accuracy in accuracies.items():
        for number, (teacher, seed) in enumerate(itertools.product(teachers, seeds)):
            name = f"{label}-{teacher}-{seed}-{fields.get('student_scale', 0.1)}"
            own = accuracy if isinstance(accuracy, float) else accuracy[number]
            test = world.test(world.stage(name, "distil", [], 10), hits(own, 7 * number))
            row = {"label": label, "teacher_seed": teacher, "seed": seed, "test": test} | fields
            world.trial(name, re.split("-", label)[0], name, 0.7, **row)
    return world


def effects_of(world: World) -> dict[str, EstimatedEffect]:
    judged = judge(Bootstrap(world.ledger), comparison(world.ledger, ["r"]))
    return {it.effect.name: it for it in judged.effects}


def concluded(world: World) -> list[str]:
    rows = comparison(world.ledger, ["r"])
    return conclusions(rows, judge(Bootstrap(world.ledger), rows).effects)


TEACHERS = (0, 1, 2)


def test_the_model_distilled_from_is_the_mean_of_two_differences_and_each_is_given(world: World) -> None:
    found = fill(world, ALIKE | {"kd_from_supernet": 0.9, "kd_from_assistant": 0.84}, TEACHERS)
    effect = effects_of(found)["teaching"]
    assert [(it.above, it.below) for it in effect.each] == [
        ("minidisc", "kd_from_supernet"), ("takd_smallest", "kd_from_assistant"),
    ]  # fmt: skip
    assert [it.interval.mean for it in effect.each] == [pytest.approx(-0.1), pytest.approx(-0.04)]
    assert (effect.interval.mean, effect.interval.teachers, effect.interval.runs) == (pytest.approx(-0.07), 3, 3)
    assert effect.interval.high is not None
    assert effect.interval.high < 0
    assert re.fullmatch(
        r"Distilling from the assistant instead of the teacher changes test accuracy by −7\.0 points "
        r"\[−\d+\.\d, −\d+\.\d\] \(the mean of minidisc − kd_from_supernet −10\.0 \[−\d+\.\d, −\d+\.\d\] and "
        r"takd_smallest − kd_from_assistant −4\.0 \[−\d+\.\d, [−+]\d+\.\d\]; 3 teachers × 1 seed; simultaneous 95%\)\.",
        effect.sentence,
    )


def test_the_mean_is_over_the_replicates_that_both_differences_have(world: World) -> None:
    fill(world, {"minidisc": 0.8, "kd_from_supernet": (0.9, 0.9, 0.5), "takd_smallest": 0.8}, TEACHERS)
    fill(world, {"kd_from_assistant": 0.84}, TEACHERS[:2])
    effect = effects_of(world)["teaching"]
    assert [(it.interval.runs, it.interval.mean) for it in effect.each] == [
        (3, pytest.approx(0.1 / 3)), (2, pytest.approx(-0.04)),
    ]  # fmt: skip
    assert (effect.interval.runs, effect.interval.mean) == (2, pytest.approx(-0.07))
    assert "; 2 teachers × 1 seed;" in effect.sentence


def test_differences_without_a_common_replicate_have_no_mean(world: World) -> None:
    fill(world, {"minidisc": 0.8, "kd_from_supernet": 0.9}, TEACHERS[:2])
    fill(world, {"takd_smallest": 0.8, "kd_from_assistant": 0.84}, TEACHERS[2:])
    assert [it.above for it in effects_of(world)["teaching"].each] == ["minidisc"]


def test_first_weights_and_searching_are_effects_too(world: World) -> None:
    found = effects_of(fill(world, ALIKE | {"kd_equal_compute": 0.7, "takd_middle": 0.9}, TEACHERS))
    assert list(found) == ["whole", "teaching", "initial_weights", "searching_smallest", "searching_middle"]
    means = {name: it.interval.mean for name, it in found.items()}
    assert means == pytest.approx(
        {"whole": 0.1, "teaching": 0, "initial_weights": 0.1, "searching_smallest": 0, "searching_middle": -0.1}
    )
    assert found["initial_weights"].sentence.startswith(
        "Starting from the supernet's weights instead of the teacher's changes test accuracy by +10.0 points ["
    )
    assert (
        "(kd_from_supernet − kd_equal_compute; 3 teachers × 1 seed; simultaneous 95%)."
        in found["initial_weights"].sentence
    )
    assert found["whole"].interval.mean == pytest.approx(means["teaching"] + means["initial_weights"])


def test_effects_hold_at_the_same_time_as_the_differences_of_the_table(world: World) -> None:
    fill(world, ALIKE | {"kd_equal_compute": 0.7, "kd": 0.6, "takd": 0.65}, TEACHERS)
    rows = comparison(world.ledger, ["r"])
    judged = judge(Bootstrap(world.ledger), rows)
    sides = [(it.above, it.below) for it in judged.differences]
    assert len(sides) == len(set(sides))
    assert set(sides) - {(it.above, it.below) for it in schedules_compared(rows)} == {
        ("kd_from_supernet", "kd_equal_compute"), ("takd_smallest", "kd_from_assistant"),
    }  # fmt: skip
    lines = {(it.above, it.below): it.interval for it in judged.differences}
    for effect in judged.effects:
        assert all(it.interval == lines[it.above, it.below] for it in effect.each)
    assert LEVEL == 0.95, "the sentences say so"


@pytest.mark.parametrize(
    ("teachers", "seeds", "end"),
    [
        ((None,), (0,), "(minidisc − kd_equal_compute; 1 teacher × 1 seed; simultaneous 95%) on these test rows, with "
         "this teacher."),
        ((None,), (0, 1, 2), "1 teacher × 3 seeds; simultaneous 95%) with this teacher."),
        ((0, 1, 2), (0, 1), "3 teachers × 2 seeds; simultaneous 95%)."),
    ],
)  # fmt: skip
def test_an_effect_is_no_more_general_than_its_replicates(
    world: World, teachers: Sequence[int | None], seeds: Sequence[int], end: str
) -> None:
    fill(world, {"minidisc": 0.9, "kd_equal_compute": 0.6}, teachers, seeds)
    sentence = effects_of(world)["whole"].sentence
    assert sentence.endswith(end)
    assert "better" not in sentence


def test_an_effect_that_may_be_none_says_so(world: World) -> None:
    fill(world, {"minidisc": (0.80, 0.83, 0.79), "kd_equal_compute": 0.8}, TEACHERS)
    assert effects_of(world)["whole"].sentence.endswith("95%), which cannot be told apart from none.")


def test_without_predictions_an_effect_has_no_interval(world: World) -> None:
    for name, value in (("minidisc", 0.9), ("kd_equal_compute", 0.7)):
        student = world.stage(name, "distil", [], 1)
        world.metric(f"test-{name}", "evaluate", "test", value)
        world.trial(name, name, student, value, test=f"test-{name}")
    assert effects_of(world)["whole"].sentence.endswith(
        "by +20.0 points (minidisc − kd_equal_compute; 1 teacher × 1 seed), without predictions and so without an "
        "interval."
    )
    assert concluded(world) == [
        "Student 0.1: there is no verdict on minidisc, since there are no predictions and so no interval."
    ]


def test_each_schedule_is_judged_by_its_own_controls(world: World) -> None:
    accuracies = {
        "minidisc": 0.8, "kd_equal_compute": 0.6, "minidisc-lam-0.4": 0.8, "kd_equal_compute-lam-0.4": 0.7,
        "autodisc": 0.8, "kd_equal_compute-of-autodisc": 0.9, "takd_smallest": 0.8,
    }  # fmt: skip
    fill(world, accuracies, TEACHERS)
    rows = comparison(world.ledger, ["r"])
    judged = judge(Bootstrap(world.ledger), rows)
    whole = {it.label: it.interval.mean for it in judged.effects if it.effect.name == "whole"}
    assert whole == pytest.approx({"minidisc": 0.2, "minidisc-lam-0.4": 0.1, "autodisc": -0.1})
    sides = {(it.above, it.below) for it in judged.differences}
    assert ("autodisc", "kd_equal_compute-of-autodisc") in sides
    assert not [it for it in sides if it[1].startswith("kd_equal_compute") and not it[1].endswith(it[0].split("-")[-1])
                and it != ("minidisc", "kd_equal_compute")]  # fmt: skip
    assert {it.label for it in judged.effects if it.effect.name == "searching_smallest"} == set(whole)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kd_equal_compute": 0.9}, ["KD with equal compute is better than minidisc: the tables do not support an"]),
        ({}, ["minidisc and KD with equal compute are the same on every resample"]),
        ({"kd_equal_compute": (0.8, 0.83, 0.78)},
         ["cannot be told apart (the difference is", ", and KD with equal compute is as good to within "]),
        ({"kd_equal_compute": 0.6, "kd_from_supernet": 0.6, "kd_from_assistant": 0.6},
         ["minidisc is better than KD with equal compute, and the assistant has a part in that: the tables support an "
          "assistant."]),
        ({"kd_equal_compute": 0.6, "kd_from_supernet": 0.95, "kd_from_assistant": 0.95},
         ["minidisc is better than KD with equal compute, but not by its assistant"]),
        ({"kd_equal_compute": 0.6, "kd_from_supernet": (0.8, 0.83, 0.78)},
         ["but whether the assistant has a part in that cannot be told", "What cannot be told: the effect of the "
          "model distilled from."]),
        ({"kd_equal_compute": 0.9, "kd_from_supernet": 0.6, "kd_from_assistant": 0.6},
         ["Yet from the same first weights, distilling from the assistant is better than from the teacher"]),
        ({"takd_smallest": 0.6, "takd_middle": 0.6, "kd_from_assistant": 0.6},
         ["They support a search: it is better than the smallest assistant and the middle assistant"]),
        ({"takd_smallest": 0.6, "takd_middle": (0.8, 0.83, 0.78)},
         ["They do not support a search: it cannot be told apart from the middle assistant, chosen by nobody."]),
        ({"takd_smallest": 0.95},
         ["They do not support a search: the smallest assistant, chosen by nobody, is better."]),
    ],
)  # fmt: skip
def test_the_conclusion_is_no_stronger_than_the_intervals(
    world: World, changed: Mapping[str, float | Sequence[float]], words: Sequence[str]
) -> None:
    [found] = concluded(fill(world, ALIKE | changed, TEACHERS))
    assert found.startswith("Student 0.1: ")
    for part in words:
        assert part in found


def test_as_good_is_no_closer_than_the_interval(world: World) -> None:
    fill(world, {"minidisc": 0.8, "kd_equal_compute": (0.8, 0.83, 0.78)}, TEACHERS)
    interval = effects_of(world)["whole"].interval
    assert interval.low is not None
    assert -interval.low > interval.mean > interval.low
    [found] = concluded(world)
    assert f"is as good to within {-100 * interval.low:.1f} points." in found


def test_one_replicate_gives_no_verdict_and_one_teacher_one_for_itself(world: World) -> None:
    fill(world, ALIKE | {"kd_equal_compute": 0.6})
    assert concluded(world) == [
        "Student 0.1: there is no verdict, since one teacher with one seed gives none. On these test rows, with this "
        "teacher, minidisc is ahead of KD with equal compute."
    ]
    fill(world, ALIKE | {"kd_equal_compute": 0.6}, seeds=(1, 2))
    [found] = concluded(world)
    assert "minidisc is better than KD with equal compute with this teacher" in found


def test_what_one_replicate_shows_of_an_effect_is_no_part_of_a_verdict_over_several(world: World) -> None:
    fill(world, {"minidisc": 0.9, "kd_equal_compute": 0.6}, TEACHERS)
    fill(world, {"kd_from_supernet": 0.5}, TEACHERS[:1])
    [found] = concluded(world)
    assert "whether the assistant has a part in that cannot be told" in found


def test_without_controls_there_is_no_verdict(world: World) -> None:
    fill(world, {"minidisc": 0.9, "kd": 0.6}, TEACHERS)
    assert concluded(world) == [
        "Student 0.1: there is no verdict on minidisc, since KD with equal compute did not run beside it."
    ]
    assert effects_of(world) == {}


def test_students_are_judged_apart(world: World) -> None:
    fill(world, ALIKE, TEACHERS)
    fill(world, ALIKE | {"kd_equal_compute": 0.9}, TEACHERS, student_scale=0.05)
    told = sentences(judge(Bootstrap(world.ledger), comparison(world.ledger, ["r"])).effects)
    assert [it.partition(": ")[0] for it in told] == ["Student 0.1"] * 5 + ["Student 0.05"] * 5
    assert [it.partition(": ")[0] for it in concluded(world)] == ["Student 0.1", "Student 0.05"]


def test_every_report_has_the_sentences(world: World) -> None:
    fill(world, ALIKE | {"kd_equal_compute": (0.7, 0.72, 0.71)}, TEACHERS)
    shown = json.loads(json.dumps(show(world.ledger, "r"), allow_nan=False))
    [last], effects = shown["conclusion"], [it["sentence"] for it in shown["effects"]]
    assert shown["effects"][1]["effect"] == "teaching"
    assert [it["above"] for it in shown["effects"][1]["differences"]] == ["minidisc", "takd_smallest"]
    text, of_show = io.StringIO(), io.StringIO()
    print_comparison(world.ledger, ["r"], text)
    render_show(shown, of_show)
    page = html_report(world.ledger, "r").replace("&#x27;", "'")
    for report in (text.getvalue(), of_show.getvalue(), comparison_markdown(world.ledger, ["r"]), page):
        assert all(it in report for it in effects)
        assert report.rindex("r: conclusion") < report.index(last)
