"""How often the intervals of reports hold, by the simulation of `experiments/benchmarks/interval_coverage.py`."""

import pytest
from interval_coverage import CASES, NESTED, Case, coverage, coverage_of_tables, main

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
