"""The gang that the jobs of a process share, and the news of its workers; both without any worker."""

from typing import Any

import pytest

from raydisc.config.resources import ResourcesConfig
from raydisc.parallel.mesh import Layout
from raydisc.runtime import gang as gangs
from raydisc.runtime.gang import Team, gang_of, news_with
from raydisc.training.execution import Execution
from raydisc.training.loop import never


def test_a_gang_asks_the_job_that_it_serves_whether_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangs, "_HELD", [])
    team = Team(Layout(2), ResourcesConfig(workers=2), Execution(), "runs")
    first = gang_of(team, None, lambda: True)
    assert first.stops()
    second = gang_of(team, None, never)
    assert second is first
    assert not second.stops(), "the job before was ended, this one was not"


def test_no_evaluation_is_lost_among_the_news() -> None:
    states: list[dict[str, Any]] = [
        {"step": 1},
        {"step": 2, "evaluation": 1, "metric": 0.5},
        {"step": 3},
        {"step": 4, "candidates": []},
        {"step": 5},
        {"step": 6},
    ]
    news: list[dict[str, Any]] = []
    for state in states:
        news = news_with(news, state)
    assert [it["step"] for it in news] == [2, 4, 6]
