"""The gang that the jobs of a process share, and the news of its workers; both without any worker."""

import pytest

from raydisc.config.resources import ResourcesConfig
from raydisc.parallel.mesh import Layout
from raydisc.runtime import gang as gangs
from raydisc.runtime.gang import Team, gang_of, news_with
from raydisc.training.execution import Execution
from raydisc.training.loop import never
from raydisc.training.progress import Evaluated, Evaluation, Event, Ranked, StepsDone, step_of


def test_a_gang_asks_the_job_that_it_serves_whether_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangs, "_HELD", [])
    team = Team(Layout(2), ResourcesConfig(workers=2), Execution(), "runs")
    first = gang_of(team, None, lambda: True)
    assert first.stops()
    second = gang_of(team, None, never)
    assert second is first
    assert not second.stops(), "the job before was ended, this one was not"


def test_no_evaluation_is_lost_among_the_news() -> None:
    events = [
        StepsDone(1, 6),
        Evaluated(Evaluation(2, 0.5, 0.1), 1, 6),
        StepsDone(3, 6),
        Ranked((), 4, 6),
        StepsDone(5, 6),
        StepsDone(6, 6),
    ]
    news: list[Event] = []
    for event in events:
        news = news_with(news, event)
    assert [step_of(event) for event in news] == [2, 4, 6]
