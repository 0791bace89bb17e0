"""The key of a single stage holds everything that its result depends on, and nothing else."""

from dataclasses import dataclass, replace

import pytest
from tiny_runs import changed, tiny_experiment

from raydisc.schedules.reinvest import Saved
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.distil import Budget, Distil
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.importance import Importance
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.finalist import Finalist
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE

BASE = tiny_experiment()
DATA, TEACHER, UNITS, OUTPUTS = (Artifact(key=name * 64, kind=name) for name in "dtuo")


def distil(**values):
    defaults = {
        "data": DATA, "importance": UNITS, "teacher": Model(UNITS), "outputs": OUTPUTS, "start": Model(UNITS),
        "scale": STUDENT_SCALE, "config": BASE.distillation, "seed": 0,
    }  # fmt: skip
    return Distil(**{**defaults, **values})


@pytest.mark.parametrize(
    "values",
    [
        {"data": TEACHER},
        {"importance": TEACHER},
        {"teacher": Model(TEACHER)},
        {"teacher": Model(UNITS, 0.5)},
        {"outputs": None},
        {"start": Model(TEACHER)},
        {"start": Model(UNITS, 0.5)},
        {"scale": 0.3},
        {"seed": 1},
        {"budget_flops": 1e9},
        {"budget_flops": 1e9, "config": changed(BASE.distillation, patience=1)},
        {"extra": Saved(Model(UNITS, 0.5))},
    ],
)
def test_every_field_of_a_distillation(values):
    assert distil(**values).key(ONE_THREAD) != distil().key(ONE_THREAD)


def by_budget(**values):
    return distil(budget_flops=1e9, config=changed(BASE.distillation, **values)).key(ONE_THREAD)


def test_what_would_follow_epochs_is_not_in_the_key_of_a_training_by_budget():
    beside = distil(budget_flops=1e9, extra=Saved(Model(TEACHER, 0.5)))
    assert beside == distil(budget_flops=1e9)
    assert beside.promise(ONE_THREAD) == distil(budget_flops=1e9).promise(ONE_THREAD)


def test_epochs_are_in_the_key_of_a_training_by_budget_only_as_the_number_of_its_evaluations():
    assert by_budget(epochs=5.0) == by_budget() != by_budget(lr=1e-5)
    assert by_budget(patience=1) == by_budget(patience=2) != by_budget()
    assert by_budget(patience=1, epochs=2.4) == by_budget(patience=1, epochs=2.0) != by_budget(patience=1, epochs=3.0)


def supernet(lam=None, **config):
    return OnceForAll(
        data=DATA, outputs=OUTPUTS, importance=UNITS, scales=(0.5, STUDENT_SCALE),
        config=changed(BASE.once_for_all, **config), objective=Objective.of(BASE.distillation), seed=0, lam=lam,
    )  # fmt: skip


@pytest.mark.parametrize("choose_at", [0.5, 1.0])
def test_a_lambda_is_in_the_key_of_a_supernet_only_where_the_best_weights_are_kept_by_it(choose_at):
    assert supernet(0.1, choose_at=choose_at) == supernet(None, choose_at=choose_at)
    assert supernet(0.1, keep="best").key(ONE_THREAD) != supernet(0.2, keep="best").key(ONE_THREAD)


def test_the_key_of_a_finalist_is_of_the_contest_and_the_scale():
    contest = supernet(choose_at=0.5)
    one = Finalist(contest.promise(ONE_THREAD), 0.5, contest)
    assert one.settings() == {"contest": contest.key(ONE_THREAD), "scale": 0.5}
    assert one.promise(ONE_THREAD).inputs == (contest.key(ONE_THREAD), DATA.key, OUTPUTS.key, UNITS.key)
    other = supernet(choose_at=0.6)
    others = [Finalist(one.contest, STUDENT_SCALE, contest), Finalist(other.promise(ONE_THREAD), 0.5, other)]
    assert len({stage.key(ONE_THREAD) for stage in (one, *others)}) == 3


@dataclass(frozen=True)
class Share(Budget):
    """A part of what one model costs."""

    rule = "share"
    share: float = 0.5

    def flops(self, request, known, source):
        return self.share * self.model.artifact.flops


def test_budgets_of_different_rules_never_share_a_key():
    candidate = Model(UNITS, 0.5)
    budgets = [None, Saved(candidate), Share(candidate), Share(candidate, 0.9)]
    assert len({distil(extra=budget).key(ONE_THREAD) for budget in budgets}) == len(budgets)


def test_a_budget_without_a_rule_of_its_own_has_no_key():
    class Other(Saved):
        pass

    with pytest.raises(TypeError, match="Other needs a `rule` of its own"):
        distil(extra=Other(Model(UNITS, 0.5))).key(ONE_THREAD)


def test_initialisation_alone_adds_nothing_to_a_distillation():
    other = changed(BASE.distillation, initialisation="teacher")
    assert distil(config=other).key(ONE_THREAD) == distil().key(ONE_THREAD)


def test_where_an_input_lies_is_not_in_the_key():
    """An artifact enters by its key; facts and cost that came with it do not."""
    finished = replace(UNITS, facts={"parameters": 5})
    assert distil(importance=finished, teacher=Model(finished), start=Model(finished)).key(ONE_THREAD) == distil().key(
        ONE_THREAD
    )


def test_a_promise_names_its_inputs_once():
    promise = distil().promise(ONE_THREAD)
    assert promise.inputs == (DATA.key, UNITS.key, OUTPUTS.key)
    assert promise.kind == "distil"
    assert promise.facts is None
    assert Evaluate(DATA, TEACHER).promise(ONE_THREAD).inputs == (DATA.key, TEACHER.key)
    assert Evaluate(DATA, TEACHER).key(ONE_THREAD) != Evaluate(DATA, UNITS).key(ONE_THREAD)


def test_keys_from_before_units_could_be_allocated_uniformly_are_found():
    request = Importance(DATA, TEACHER, "gradient", 64, 0)
    assert "allocation" not in request.settings()
    assert replace(request, allocation="uniform").settings()["allocation"] == "uniform"
