"""Every schedule that is registered keeps the contract of schedules."""

import pytest

from raydisc.config.space import RangeConfig
from raydisc.schedules import SCHEDULES
from raydisc.schedules.autodisc import Autodisc, AutodiscOptions
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.schedules.optuna import Optuna, OptunaOptions
from raydisc.schedules.recommend import Recommend, RecommendOptions
from raydisc.testing.runs import tiny_experiment
from raydisc.testing.schedules import ScheduleContract

OPTIONS = {"takd": {"path": [0.7, 0.4]}, "recommend": {"budget_flops": 1.5e8}}
"""Options of the schedules that cannot do without."""


def examples():
    """Every schedule with options, and every control beside one that asks for it."""
    plain = [kind(kind.Options(**OPTIONS.get(kind.name, {}))) for kind in SCHEDULES if not kind.is_control]
    controls = {control: control.of(rival) for rival in reversed(plain) for control in rival.controls}
    assert set(controls) == {kind for kind in SCHEDULES if kind.is_control}
    by_lam = Optuna(OptunaOptions(space={"lam": RangeConfig(low=0.1, high=0.3)}, seed=3))
    arms = [Recommend(RecommendOptions(budget_flops=3e8, arms=[arm])) for arm in ("minidisc", "takd")]
    return [*plain, *arms, *controls.values(), Minidisc(MinidiscOptions(lam=0.5, assistants=2, reinvest=False)), by_lam]


class TestSchedules(ScheduleContract):
    @pytest.fixture(params=examples(), ids=lambda schedule: next(schedule.examples((0.9,), 0.25, 0), schedule).name)
    def schedule(self, request):
        return request.param


class TestDecidedBySupernetAlone(ScheduleContract):
    """The student's own scale wins the first contest, and the student is cut from the teacher."""

    @pytest.fixture
    def schedule(self):
        return Autodisc(AutodiscOptions(lam=50.0))

    @pytest.fixture
    def experiment(self):
        base = tiny_experiment()
        return tiny_experiment(
            distillation=base.distillation.model_copy(update={"initialisation": "teacher"}),
        )
