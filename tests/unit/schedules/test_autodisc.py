"""AutoDisc: assistants are chosen one after the other, each in a supernet of the last, until the student is chosen."""

import pytest
from schedule_runs import ran, with_distillation
from tiny_runs import changed

from raydisc.schedules.autodisc import Autodisc, AutodiscOptions
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.files import read_weights
from raydisc.testing.runs import STUDENT_SCALE
from raydisc.tradeoff import choose

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(search, storage):
    """Runs AutoDisc with some options; also gives the supernets that it asked for, in order."""

    def run(**options):
        found = ran(Autodisc(AutodiscOptions(**options)).steps(search), storage)
        found.supernets = [stage for stage in found.told.stages if stage[0].kind == "once_for_all"]
        return found

    return run


def test_a_large_lambda_takes_no_assistant(run):
    """The student's own scale wins the first contest: it is distilled from the teacher, from the supernet's weights."""
    found = run(lam=50.0)
    [(request, supernet, _)], [student] = found.supernets, found.distils
    assert found.outcome.path == ()
    assert request.teacher is None
    assert student.teacher == Model(student.importance)
    assert student.start == Model(supernet)
    assert found.outcome.initialisation == "supernet"


def test_each_choice_is_the_best_tradeoff_below_the_last_and_the_students_own_ends_the_search(run):
    found = run(lam=0.0)
    below, origin = (0.9, 0.7, 0.5, 0.4), None
    for place, (request, supernet, _) in enumerate(found.supernets):
        assert request.scales == (*below, STUDENT_SCALE)
        assert request.teacher == origin
        best = choose(SupernetFacts.of(supernet).candidates, 0.0).scale
        if best == STUDENT_SCALE:
            assert place == len(found.outcome.path)
            break
        assert found.outcome.path[place] == best
        below, origin = tuple(scale for scale in below if scale < best), Model(supernet, best)
    [student] = found.distils
    assert student.teacher == (origin or Model(student.importance))
    assert student.start == Model(found.supernets[-1][1])


def test_a_supernet_that_only_decided_is_paid(search, storage):
    """Students are cut from the teacher, and the student's own scale wins: the student has nothing of the supernet."""
    from_teacher = with_distillation(search, initialisation="teacher")
    found = ran(Autodisc(AutodiscOptions(lam=50.0)).steps(from_teacher), storage)
    [supernet] = [artifact for request, artifact, _ in found.told.stages if request.kind == "once_for_all"]
    assert found.distils[0].start == found.distils[0].teacher
    assert supernet in found.outcome.own
    assert found.outcome.own[-1] == found.outcome.student


def test_there_are_at_most_the_assistants_that_are_allowed(run):
    """With λ = 0 the first supernet of this task prefers an assistant."""
    found = run(lam=0.0, max_assistants=1)
    assert len(found.supernets) == len(found.outcome.path) == 1
    assert found.distils[0].teacher == Model(found.outcome.supernet, found.outcome.path[0])


def test_a_second_supernet_is_cut_from_the_assistant(search, storage):
    """Hardly trained, it has the first one's weights, which are not the teacher's."""
    run = ran(_two_supernets(search), storage)
    teacher, one, two = run.outcome
    weights = {name: tensor for name, tensor in read_weights(run.store, Model(two)).state.items() if "query" in name}
    for name, tensor in weights.items():
        cut = tuple(map(slice, tensor.shape))
        before = read_weights(run.store, Model(one, 0.5)).state[name][cut]
        assert (tensor - before).abs().max() < 1e-6
        assert (tensor - read_weights(run.store, teacher).state[name][cut]).abs().max() > 1e-3


def _two_supernets(search):
    """Train one supernet, and another, whose learning rate is next to nothing, from a candidate of the first."""
    ready = yield from search.prepare()
    one = yield from search.once_for_all(ready, (0.5, 0.4))
    still = changed(search.experiment.once_for_all, lr=1e-12)
    idle = type(search)(search.experiment.model_copy(update={"once_for_all": still}), search.subject, STUDENT_SCALE, 0)
    two = yield from idle.once_for_all(ready, (0.4,), teacher=Model(one, 0.5))
    return ready.teacher, one, two
