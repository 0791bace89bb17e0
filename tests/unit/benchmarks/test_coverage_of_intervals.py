"""How often the intervals of reports hold, by `experiments/benchmarks/interval_coverage.py`."""

from pathlib import Path

import numpy as np
import pytest
from coverage_of_runs import expected, parts_of
from interval_coverage import CASES, NESTED, Case, coverage, coverage_of_tables, main
from ledger_world import World

from raydisc.errors import InputError
from raydisc.report.intervals import Paired

REPETITIONS = 300
"""The standard error of a coverage of 95% is 1.3%."""


@pytest.mark.parametrize(("seed", "case"), list(enumerate([*CASES, *NESTED])))
def test_an_interval_holds_as_often_as_it_says(seed: int, case: Case) -> None:
    held, _ = coverage(case, REPETITIONS, resamples=200, seed=seed)
    assert held >= 0.925
    # A few replicates cannot show that they hardly differ: there the interval is wider than it would need to be.
    assert held <= (1.0 if case.replicates > 1 and case.spread < 1 else 0.985)


@pytest.mark.parametrize("replicates", [1, 3])
def test_all_intervals_of_a_table_hold_at_once(replicates: int) -> None:
    together, one_by_one = coverage_of_tables(Case(0.10, 0.5, replicates, 0.5), 150, rows=1000, resamples=200)
    assert together >= 0.92
    assert one_by_one <= together - 0.05


def test_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--repetitions", "2", "--tables", "2", "--rows", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(("coverage", "half-width (points)")) for line in lines) == 1
    assert len([line for line in lines if "%  " in line]) == len(CASES) + len(NESTED) + len(CASES) // 3


def test_intervals_from_a_part_of_the_teachers_are_held_against_the_others() -> None:
    # Three teachers, two of which agree: only an interval with the third is wide enough for the others.
    noise = 1e-4 * np.random.default_rng(0).standard_normal((3, 200))
    found = list(parts_of(Paired(np.array([0.0, 0.001, 0.5]), [7, 8, 9], noise)))
    assert [(part.teachers, part.others, part.holds) for part in found] == [(2, 1, False), (2, 1, True), (2, 1, True)]
    assert found[0].half_width == pytest.approx(100 * 12.706 * 0.0005, rel=0.01)


def test_seeds_of_a_teacher_are_one_replicate() -> None:
    noise = 1e-4 * np.random.default_rng(0).standard_normal((6, 200))
    values = np.array([-0.1, 0.1, 0.001, 0.001, 0.0, 0.002])
    found = list(parts_of(Paired(values, [7, 7, 8, 8, 9, 9], noise)))
    assert [(part.teachers, part.others) for part in found] == [(2, 1)] * 3
    assert max(part.half_width for part in found) == pytest.approx(100 * 12.706 * 0.0005, rel=0.01)


@pytest.mark.parametrize(("teachers", "others"), [(2, 3), (3, 2), (4, 1)])
def test_the_share_that_is_expected_is_that_of_teachers_who_are_drawn(teachers: int, others: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [Paired(rng.standard_normal(5), range(5), 1e-6 * rng.standard_normal((5, 20))) for _ in range(400)]
    holds = [part.holds for it in drawn for part in parts_of(it) if part.teachers == teachers]
    assert np.mean(holds) == pytest.approx(expected(teachers, others), abs=0.03)
    assert expected(teachers, others) < 0.95
    assert expected(teachers, 10**6) == pytest.approx(0.95, abs=1e-3)


def right(teacher: int) -> dict[str, list[int]]:
    """Test rows that students by a teacher have right."""
    counts = {"kd": 40, "via-0.5": 45, "via-0.3": 50, "minidisc": 44 + teacher}
    return {name: [1] * count + [0] * (100 - count) for name, count in counts.items()}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A run of four teachers, each of whom has students of another quality, and one of two."""
    for run, teachers in (("r", range(4)), ("two", range(2))):
        world = World(tmp_path, run)
        world.base()
        for teacher in teachers:
            world.fill(teacher=teacher, right=right(teacher))
    return tmp_path


def test_finished_runs_take_the_place_of_the_simulation(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--runs", "r", "--storage", str(storage)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    [two, three] = [line for line in lines if line[:2] in (["2", "2"], ["3", "1"])]
    assert int(two[2]) // 6 == int(three[2]) // 4 > 3
    assert 0 < float(two[3]) <= 1
    assert float(two[4]) == pytest.approx(expected(2, 2), abs=1e-3)


def test_runs_that_show_nothing_are_refused(storage: Path) -> None:
    with pytest.raises(InputError, match=r"run two: its differences are of 2 teacher\(s\).*it takes 3 or more"):
        main(["--runs", "two", "--storage", str(storage)])
    with pytest.raises(InputError, match="give both or neither"):
        main(["--runs", "two"])
