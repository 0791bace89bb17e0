"""The benchmark of recommendations: what it runs, and what it makes of a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
import recommend
from ledger_world import World

from raydisc.config.schedules import ScheduleConfig
from raydisc.testing.runs import tiny_experiment


def test_every_variant_is_a_schedule_with_the_budget() -> None:
    found = recommend.variants(1e9, ["kd", "kd_lr_up"], 3, tiny_experiment())
    assert list(found) == ["recommended", "alone-kd", "alone-kd_lr_up", "asha"]
    for written in found.values():
        ScheduleConfig.model_validate(written)
    assert found["alone-kd_lr_up"] == {"recommend": {"budget_flops": 1e9, "arms": ["kd_lr_up"]}}
    assert found["asha"]["optuna"]["space"]["distillation.lr"]["choices"] == pytest.approx([3e-3, 9e-3])
    assert "asha" not in recommend.variants(1e9, ["kd"], 0, tiny_experiment())


def test_the_difference_is_paired_by_test_rows(tmp_path: Path) -> None:
    names = ["q-recommended", "q-alone-kd", "q-alone-kd_lr_up"]
    for name, right in zip(names, ([1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]), strict=True):
        world = World(tmp_path, name)
        world.stage(f"student-{name}", "distil", [], 10)
        test = world.test(f"student-{name}", right * 25)
        world.trial(f"trial-{name}", "recommend", f"student-{name}", 0.7, test=test, stages=[f"student-{name}"])
    lines = recommend.lines_of(world.ledger, names)
    assert [line["test"] for line in lines] == [0.75, 0.5, 1.0]
    assert [line["difference"] for line in lines] == [0.0, -0.25, 0.25]
    assert lines[0]["difference_se"] == 0.0
    assert lines[1]["difference_se"] == pytest.approx((0.25 * 0.75 / 100) ** 0.5, rel=0.15)
    assert lines[1]["flops"] == 10
    random, best = recommend.summary_of(lines)
    assert "has 0.7500 on test on average, the recommendation 0.7500" in random
    assert "q-alone-kd_lr_up: +25.00 points" in best
    assert not recommend.sheet(lines).is_empty
