"""Comparisons of what was computed by different versions, or on different processors."""

from pathlib import Path

import pytest
from ledger_world import World

from raydisc.report.compare import comparison
from raydisc.report.platforms import mixtures
from raydisc.report.show import show
from raydisc.report.tables import comparison_markdown, print_comparison

AVX2 = {"torch": "2.6.0", "transformers": "4.50.0", "cpu_capability": "AVX2", "device": "A"}


def compared(world: World, teacher: dict[str, str], *students: dict[str, str]) -> list[str]:
    """Two trials of one teacher, each student computed by some platform; what is to be known of their comparison."""
    world.stage("teacher", "finetune", **teacher)
    for number, platform in enumerate(students):
        student = world.stage(f"student-{number}", "distil", ["teacher"], **platform)
        world.trial(f"t{number}", "kd", student, 0.5, stages=["teacher", student], seed=number)
    return mixtures(world.ledger, comparison(world.ledger, ["r"]))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_differs_is_named(world: World) -> None:
    [told] = compared(world, AVX2, AVX2, AVX2 | {"torch": "2.7.1", "cpu_capability": "AVX512"})
    assert told == (
        "what is compared was computed with different versions of torch (2.6.0, 2.7.1) and CPU capabilities "
        "(AVX2, AVX512), which round differently, so that a small difference may come from this alone"
    )
    assert told in show(world.ledger, "r")["notices"]
    assert f"Notice: {told}." in comparison_markdown(world.ledger, ["r"])


def test_it_stands_below_the_tables(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    [told] = compared(world, AVX2, AVX2, AVX2 | {"device": "B"})
    print_comparison(world.ledger, ["r"], plain=True)
    assert capsys.readouterr().out.endswith(f"Notice: {told}.\n")


@pytest.mark.parametrize(
    "students",
    [
        (AVX2, AVX2),
        (AVX2, {}),  # of an earlier version, which did not say
        (AVX2 | {"torch": "2.7.1"}, AVX2 | {"torch": "2.7.1"}),  # the teacher is the same for both
        (AVX2,),
        (),
    ],
)
def test_nothing_is_said_where_nothing_is_known_to_differ(world: World, students: tuple[dict[str, str], ...]) -> None:
    if students:
        assert compared(world, AVX2, *students) == []
    else:
        assert mixtures(world.ledger, []) == []
