from __future__ import annotations

from typing import Any

import pytest
from ledger_world import IMPORTANCE, KD, OUTPUTS, SUPERNET, TA_3, TA_5, VIA_3, VIA_5, VIA_SUPERNET, World

from raydisc.report.costs import Cost, StageGraph, cost_of, total


@pytest.fixture
def graph(filled: World) -> StageGraph:
    return StageGraph(filled.ledger.rows("stages"))


@pytest.mark.parametrize(
    ("students", "flops"),
    [
        (["kd-s0"], OUTPUTS + IMPORTANCE + KD),
        (["via-0.3-s0"], OUTPUTS + IMPORTANCE + TA_3 + VIA_3),
        (["minidisc-s0"], OUTPUTS + IMPORTANCE + SUPERNET + VIA_SUPERNET),
        # Shared stages count once.
        (["via-0.3-s0", "via-0.5-s0"], OUTPUTS + IMPORTANCE + TA_3 + VIA_3 + TA_5 + VIA_5),
        ([], 0),
    ],
)
def test_a_cost_is_the_sum_of_the_distinct_stages_of_the_search(
    graph: StageGraph, students: list[str], flops: float
) -> None:
    cost = graph.search_cost(students)
    assert cost == Cost(flops, pytest.approx(flops / 10), pytest.approx(flops / 100), pytest.approx(flops / 5))


def test_tokenising_the_teacher_and_the_test_are_outside_the_search(graph: StageGraph) -> None:
    kinds = {graph.stages[key]["kind"] for key in graph.searched(["test-minidisc-s0"])}
    assert kinds == {"teacher_outputs", "importance", "once_for_all", "distil"}
    assert {"data", "teacher"} < graph.closure(["kd-s0"])


def test_a_stage_counts_whoever_computed_it(world: World) -> None:
    world.base()
    world.stage("student", "distil", ["outputs"], 3, run="another")
    assert StageGraph(world.ledger.rows("stages")).search_cost(["student"]).flops == 3 + OUTPUTS


def test_a_stage_that_failed_before_it_finished_counts_once(world: World) -> None:
    world.stage("student", "distil", [], 2, state="failed")
    world.stage("student", "distil", [], 3)
    assert StageGraph(world.ledger.rows("stages")).search_cost(["student"]).flops == 3


def test_a_missing_stage_is_noticed_only_if_it_is_one() -> None:
    rows: list[dict[str, Any]] = [{"key": "student", "state": "finished", "inputs": ["lost", "hash"], "kind": "distil"}]
    graph = StageGraph(rows)
    assert graph.missing(["student"], ["student", "lost"]) == {"lost"}
    assert graph.missing(["student"], ["student"]) == set()
    assert graph.missing(["gone"], []) == {"gone"}


def test_missing_numbers_count_nothing() -> None:
    row = {"flops": None, "device_seconds": 1.0, "wall_seconds": None, "cpu_seconds": 2}
    assert cost_of(row) == Cost(0.0, 1.0, 0.0, 2.0)
    assert total([]) == Cost()
