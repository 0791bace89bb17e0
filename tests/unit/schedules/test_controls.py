"""Controls: each differs from the schedule beside it in one thing, and costs what it is to cost."""

from dataclasses import replace

import pytest
from schedule_runs import ran, with_distillation
from tiny_runs import executor
from tiny_schedules import minidisc_with

from raydisc.models.cost import STEP_FORWARDS
from raydisc.schedules.controls import (
    KdEqualCompute,
    KdEqualSeconds,
    KdFromAssistant,
    KdFromSupernet,
    TakdMiddle,
    TakdSmallest,
    middle_scale,
)
from raydisc.stages.artifact import Model
from raydisc.stages.executor import driven

pytestmark = pytest.mark.integration

RIVAL = minidisc_with(0.2, 1, False)


@pytest.fixture(scope="module")
def run(search, storage):
    """Runs a control beside MiniDisc."""
    return lambda control: ran(control.of(RIVAL).steps(search), storage)


def spent(outcome):
    return sum(artifact.flops for artifact in outcome.own)


def longest_step(request):
    """An upper bound of the FLOPs of one step of the student."""
    return STEP_FORWARDS * request.outputs.flops


def test_from_the_supernet_only_the_model_distilled_from_differs(run, mini):
    """MiniDisc's initial weights and its whole price, but the student is distilled from the teacher."""
    control = run(KdFromSupernet)
    request = control.distils[-1]
    assert (control.outcome.path, control.outcome.initialisation) == ((), "supernet")
    assert control.outcome.supernet == mini.outcome.supernet
    assert request.start == mini.distils[0].start == Model(mini.outcome.supernet)
    assert request.teacher == Model(request.importance) != mini.distils[0].teacher
    assert control.outcome.own == (request.outputs, mini.outcome.supernet, control.outcome.student)
    assert spent(mini.outcome) - longest_step(request) < spent(control.outcome) <= spent(mini.outcome)
    assert control.outcome.student["steps"] > mini.outcome.student["steps"]


def test_from_the_assistant_only_the_model_distilled_from_differs(run):
    takd, control = run(TakdSmallest), run(KdFromAssistant)
    request = control.distils[-1]
    assert request.start == takd.distils[-1].start == takd.distils[-1].teacher
    assert request.teacher == Model(request.importance) != takd.distils[-1].teacher
    assert (control.outcome.path, control.outcome.initialisation) == ((), "assistant")
    assert spent(takd.outcome) - longest_step(request) < spent(control.outcome) <= spent(takd.outcome)


def test_fixed_assistants_are_the_smallest_and_the_middle_one(run):
    assert run(TakdSmallest).outcome.path == (0.4,)
    assert run(TakdMiddle).outcome.path == (0.5,)


@pytest.mark.parametrize(
    ("above", "student", "middle"),
    [((0.9, 0.7, 0.5, 0.3, 0.2), 0.1, 0.3), ((0.9, 0.5), 0.05, 0.5), ((0.4, 0.25), 0.1, 0.25), ((0.8,), 0.5, 0.8)],
)
def test_the_middle_is_half_way_on_a_logarithmic_scale(above, student, middle):
    assert middle_scale(above, student) == middle


def paced(search, storage, seconds_of):
    """The outcome of KD with equal seconds where each stage takes the seconds that a function gives."""
    run = executor(storage)

    def execute(request):
        artifact = run.execute(request)
        return replace(artifact, cost=replace(artifact.cost, device_seconds=seconds_of(request, artifact)))

    return driven(KdEqualSeconds.of(RIVAL).steps(search), execute)


def test_equal_seconds_are_fewer_steps_where_kd_is_slower_for_its_flops(run, search, storage):
    """Seconds in proportion to FLOPs make it KD with equal compute; a student twice as slow has half its FLOPs."""
    equal = run(KdEqualCompute).outcome
    assert paced(search, storage, lambda request, artifact: 1e-9 * artifact.flops).student.key == equal.student.key

    def slow_students(request, artifact):
        return 1e-9 * artifact.flops * (2.0 if getattr(request, "budget_flops", None) else 1.0)

    half = paced(search, storage, slow_students)
    assert half.student["steps"] < equal.student["steps"]
    assert spent(half) == pytest.approx(0.55 * spent(equal), rel=0.15)


def test_equal_seconds_are_not_guessed_from_clocks_that_stand_still(run, search, storage):
    outcome = paced(search, storage, lambda request, artifact: 0.0)
    assert outcome.student.key == run(KdEqualCompute).outcome.student.key


@pytest.mark.parametrize("control", [KdEqualCompute, KdFromSupernet, KdFromAssistant])
def test_controls_of_a_rival_without_kept_outputs_cost_what_it_costs(search, storage, control):
    """With half an epoch a stage, the rival runs the teacher for the rows that it sees."""
    short = with_distillation(search, epochs=0.5).with_once_for_all(epochs=0.5)
    rival = TakdSmallest.of(RIVAL) if control is KdFromAssistant else RIVAL
    cost, run = spent(ran(rival.steps(short), storage).outcome), ran(control.of(RIVAL).steps(short), storage)
    a_step = run.outcome.student.flops / run.outcome.student["steps"]
    assert cost - 2 * a_step < spent(run.outcome) <= cost


@pytest.mark.parametrize(
    ("epochs", "kept", "has_outputs"), [(0.5, False, False), (2.0, False, True), (0.5, True, True)]
)
def test_a_budget_below_an_epoch_buys_no_outputs_of_rows_that_are_not_seen(search, storage, epochs, kept, has_outputs):
    def steps():
        ready = yield from search.prepare()
        budget = epochs * search._online_epoch_flops(ready, 0.25)
        return (yield from search.distil(ready, ready.teacher, ready.teacher, 0.25, budget_flops=budget, kept=kept))

    assert (ran(steps(), storage).distils[-1].outputs is not None) is has_outputs
