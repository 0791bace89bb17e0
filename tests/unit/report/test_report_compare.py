from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ledger_world import IMPORTANCE, KD, OUTPUTS, SUPERNET, TA_3, TA_5, VIA_3, VIA_5, VIA_SUPERNET, World

from raydisc.errors import InputError
from raydisc.report.compare import compare

FIELDS = [
    "run", "task", "schedule", "path", "student_scale", "student_parameters", "lam", "initialisation", "seed",
    "validation_metric", "test_metric", "test_se", "search_flops", "schedule_flops", "device_seconds", "wall_seconds",
    "cost_relative_to_oracle", "regret", "selected", "teacher_seed", "label", "on_front",
]  # fmt: skip

ORACLE_COST = OUTPUTS + IMPORTANCE + TA_3 + VIA_3
MAXIDISC_COST = OUTPUTS + IMPORTANCE + TA_3 + VIA_3 + TA_5 + VIA_5


def only(rows: list[dict[str, Any]], schedule: str, path: list[float] | None = None) -> dict[str, Any]:
    [row] = [r for r in rows if r["schedule"] == schedule and (path is None or r["path"] == path)]
    return row


def test_rows_have_exactly_the_fields_promised_and_are_json(filled: World) -> None:
    rows = compare(filled.ledger, ["r"])
    assert all(list(row) == FIELDS for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_schedules_and_controls_stand_in_order(filled: World) -> None:
    rows = compare(filled.ledger, ["r"])
    assert [(row["schedule"], row["path"]) for row in rows] == [
        ("kd", []), ("kd_equal_compute", []), ("kd_from_supernet", []), ("minidisc", [0.3]),
        ("maxidisc", [0.5]), ("maxidisc", [0.3]),
    ]  # fmt: skip


def test_costs_by_hand(filled: World) -> None:
    rows = compare(filled.ledger, ["r"])
    kd, mini = only(rows, "kd"), only(rows, "minidisc")
    better, worse = only(rows, "maxidisc", [0.3]), only(rows, "maxidisc", [0.5])
    assert kd["search_flops"] == kd["schedule_flops"] == OUTPUTS + IMPORTANCE + KD
    assert mini["search_flops"] == mini["schedule_flops"] == OUTPUTS + IMPORTANCE + SUPERNET + VIA_SUPERNET
    assert better["search_flops"] == ORACLE_COST
    assert worse["search_flops"] == OUTPUTS + IMPORTANCE + TA_5 + VIA_5
    assert better["schedule_flops"] == worse["schedule_flops"] == MAXIDISC_COST
    assert better["device_seconds"] == pytest.approx(ORACLE_COST / 10)
    assert better["wall_seconds"] == pytest.approx(ORACLE_COST / 100)
    assert mini["cost_relative_to_oracle"] == pytest.approx(mini["schedule_flops"] / ORACLE_COST)
    assert worse["cost_relative_to_oracle"] == pytest.approx(MAXIDISC_COST / ORACLE_COST)


def test_regret_is_against_the_path_that_validation_chose(filled: World) -> None:
    rows = compare(filled.ledger, ["r"])
    # The oracle path is .3 (validation .7): 7 of 8 right on test.
    assert only(rows, "maxidisc", [0.3])["regret"] == 0.0
    assert only(rows, "maxidisc", [0.5])["regret"] == pytest.approx(1 / 8)
    assert only(rows, "minidisc")["regret"] == pytest.approx(2 / 8)
    assert only(rows, "kd")["regret"] == pytest.approx(3 / 8)


def test_one_path_is_selected_for_each_schedule_seed_and_student_scale(filled: World) -> None:
    filled.fill(seed=1)
    rows = compare(filled.ledger, ["r"])
    selected = [(row["schedule"], row["seed"], row["path"]) for row in rows if row["selected"]]
    assert sorted(selected) == sorted(
        (schedule, seed, path)
        for seed in (0, 1)
        for schedule, path in (
            ("kd", []), ("kd_equal_compute", []), ("kd_from_supernet", []), ("minidisc", [0.3]),
            ("maxidisc", [0.3]),
        )
    )  # fmt: skip


def test_the_oracle_is_the_best_mean_over_seeds_not_the_best_of_a_seed(world: World) -> None:
    world.base()
    for seed, validation in enumerate([{0.5: 0.9, 0.3: 0.8}, {0.5: 0.5, 0.3: 0.8}]):
        for scale, value in validation.items():
            student = world.stage(f"{scale}-{seed}", "distil", ["outputs"], 1)
            test = world.test(student, [1] if scale == 0.3 else [0])
            world.trial(student, "maxidisc", student, value, path=[scale], seed=seed, test=test)
    rows = compare(world.ledger, ["r"])
    assert [(row["seed"], row["path"], row["selected"]) for row in rows] == [
        (0, [0.5], True), (1, [0.5], False), (0, [0.3], False), (1, [0.3], True),
    ]  # fmt: skip
    assert [row["regret"] for row in rows] == [1.0, 1.0, 0.0, 0.0]


def test_a_path_that_lacks_a_seed_cannot_be_the_oracle(world: World) -> None:
    for seed, scale, value in ((0, 0.5, 0.99), (0, 0.3, 0.6), (1, 0.3, 0.6)):
        student = world.stage(f"{scale}-{seed}", "distil", [], 1)
        world.trial(student, "maxidisc", student, value, path=[scale], seed=seed, test=world.test(student, [1]))
    rows = compare(world.ledger, ["r"])
    assert all(row["cost_relative_to_oracle"] is not None for row in rows)
    assert [row["selected"] for row in rows] == [True, False, True]


def test_ties_go_to_the_smaller_path(world: World) -> None:
    for name, path in (("a", [0.5]), ("b", [0.3]), ("c", [0.5, 0.3])):
        world.trial(name, "maxidisc", world.stage(name, "distil", [], 1), 0.7, path=path)
    assert [row["path"] for row in compare(world.ledger, ["r"]) if row["selected"]] == [[0.3]]


def test_without_maxidisc_there_is_no_oracle(world: World) -> None:
    student = world.stage("student", "distil", [], 1)
    world.trial("t", "kd", student, 0.5, test=world.test(student, [1]))
    [row] = compare(world.ledger, ["r"])
    assert row["regret"] is None
    assert row["cost_relative_to_oracle"] is None
    assert row["selected"]


def test_a_metric_that_is_not_a_number_is_null_and_never_selected(world: World) -> None:
    for name, value in (("a", math.nan), ("b", 0.2)):
        world.trial(name, "maxidisc", world.stage(name, "distil", [], 1), value, path=[0.5 if name == "a" else 0.3])
    broken, whole = compare(world.ledger, ["r"])
    assert broken["validation_metric"] is None
    assert not broken["selected"]
    assert whole["selected"]
    assert whole["test_metric"] is whole["test_se"] is whole["regret"] is None


def test_a_failed_trial_has_no_row_but_its_stages_cost(world: World) -> None:
    done, half = world.stage("done", "distil", [], 3), world.stage("half", "distil", [], 5)
    world.stage("lost", "distil", [half], 7, state="failed")
    world.trial("a", "maxidisc", done, 0.5, path=[0.3], stages=[done])
    world.trial("b", "maxidisc", None, None, path=[0.5], state="failed", stages=[half, "lost"], message="loss")
    [row] = compare(world.ledger, ["r"])
    assert (row["search_flops"], row["schedule_flops"]) == (3, 3 + 5)


def test_a_cost_with_a_stage_missing_is_not_known(world: World) -> None:
    student = world.stage("student", "distil", ["lost"], 3)
    world.trial("t", "kd", student, 0.5, stages=["lost", student])
    [row] = compare(world.ledger, ["r"])
    assert row["search_flops"] is row["schedule_flops"] is row["device_seconds"] is row["wall_seconds"] is None


def test_a_stage_cached_from_another_run_costs_as_much(filled: World) -> None:
    other = World(filled.ledger.root.parent, run="second")
    other.trial("t", "minidisc", "minidisc-s0", 0.65, path=[0.3], lam=0.2, reused=["supernet-s0", "minidisc-s0"])
    first, second = (only(compare(filled.ledger, [run]), "minidisc") for run in ("r", "second"))
    assert second["search_flops"] == first["search_flops"]


def test_student_scales_and_runs_are_kept_apart(filled: World) -> None:
    other = World(filled.ledger.root.parent, run="second")
    student = other.stage("small", "distil", ["outputs"], 1)
    other.trial("t", "maxidisc", student, 0.1, path=[0.3], student_scale=0.05, test=other.test(student, [0]))
    rows = compare(filled.ledger, ["second", "r", "second"])
    assert [row["run"] for row in rows] == ["second"] + ["r"] * 6
    assert rows[0]["regret"] == 0.0
    assert rows[0]["cost_relative_to_oracle"] == 1.0


def test_a_student_tested_later_has_its_test_metric(world: World) -> None:
    student = world.stage("student", "distil", [], 1)
    world.trial("t", "kd", student, 0.5)
    world.trial("t", "kd", student, 0.5, test=world.test(student, [1, 1, 1, 0]))
    [row] = compare(world.ledger, ["r"])
    assert (row["test_metric"], row["test_se"]) == (0.75, 0.01)


def test_a_run_without_trials_compares_nothing_and_an_unknown_one_is_refused(world: World) -> None:
    with pytest.raises(InputError, match=r"no run 'r' in .*; the runs there are: none"):
        compare(world.ledger, ["r"])
    world.stage("data", "tokenise")
    assert compare(world.ledger, ["r"]) == []
    with pytest.raises(InputError, match="the runs there are: r"):
        compare(world.ledger, ["r", "other"])
