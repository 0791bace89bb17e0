"""MiniDisc by the rule of its released code: one step of it, what it keeps, and the order of its stages."""

import pytest
import torch
from schedule_runs import ran
from tiny_runs import search_of, tiny_experiment
from torch.nn import functional

from raydisc.config.experiment import GridConfig
from raydisc.models.build import load_trainable
from raydisc.models.cost import ForwardCost
from raydisc.models.forward import forward
from raydisc.schedules.minidisc_paper import MinidiscPaper, MinidiscPaperOptions, published
from raydisc.signals.source import OnlineSignal
from raydisc.stages.artifact import Model
from raydisc.stages.facts import SupernetFacts
from raydisc.stages.files import read_weights
from raydisc.stages.once_for_all.model import read_candidates
from raydisc.stages.once_for_all.training import training_of
from raydisc.stages.training import Known, Pupil
from raydisc.supernet.elastic import make_elastic
from raydisc.testing.models import gradients_of
from raydisc.testing.runs import STUDENT_SCALE
from raydisc.testing.tolerance import assert_all_near
from raydisc.tradeoff import choose, tradeoff

pytestmark = pytest.mark.integration

GRID = (0.9, 0.7, 0.5, 0.4, 0.3)


@pytest.fixture(scope="module")
def search():
    return search_of(tiny_experiment(grid=GridConfig(scales=list(GRID), importance_rows=64)))


@pytest.fixture(scope="module")
def run(search, storage):
    """Runs the schedule with some options; also gives the supernets that it asked for, in order."""

    def run(**options):
        found = ran(MinidiscPaper(MinidiscPaperOptions(**options)).steps(search), storage)
        stages = [(request, artifact) for request, artifact, _ in found.told.stages]
        found.supernets = [(request, artifact) for request, artifact in stages if request.kind == "once_for_all"]
        found.last = stages[-1]
        return found

    return run


def test_one_step_is_half_the_mean_over_all_candidates_of_hidden_and_soft_losses(run):
    """Each candidate as a model of its own on the whole batch, by formulas written out here."""
    found = run()
    request, store = found.supernets[0][0], found.store
    teacher = read_weights(store, Model(request.importance))
    candidates = read_candidates(request, store)
    assert [it.scale for it in candidates] == [0.5, 0.4, 0.3, STUDENT_SCALE]
    largest = candidates[0].structure
    model = load_trainable(teacher.config, largest, largest.cut(teacher.state, teacher.config)).eval()
    make_elastic(model, teacher.config)
    whole = load_trainable(teacher.config, teacher.structure, teacher.state).eval()
    training = training_of(request, Known(teacher.config, ForwardCost.of(model, teacher.config), store), candidates)
    assert (training.config.max_grad_norm, training.dropout, training.ends_at) == (5.0, None, None)
    assigned = training.batches(3)
    positions = training.towards.teacher_positions
    signal = OnlineSignal(whole, positions, lambda batch: None)
    total = training.learner(Pupil(model, signal, "float32"))(assigned)

    [batch] = {id(batch): batch for _, batch in assigned}.values()
    with torch.no_grad():
        target = forward(whole, batch, positions)
    mask = batch.attention_mask.bool()
    expected = {name: torch.zeros_like(gradient) for name, gradient in gradients_of(model).items()}
    value = 0.0
    for it in candidates:
        dense = load_trainable(teacher.config, it.structure, it.structure.cut(teacher.state, teacher.config)).eval()
        output = forward(dense, batch, positions)
        pairs = zip(output.hidden, target.hidden, strict=True)
        hidden = sum((mine - theirs)[mask].square().mean() for mine, theirs in pairs) / len(positions)
        soft = functional.cross_entropy(output.logits, target.logits.softmax(-1))
        loss = (hidden + soft) / 2 / len(candidates)
        loss.backward()
        value += float(loss.detach())
        for name, gradient in gradients_of(dense).items():
            expected[name][tuple(map(slice, gradient.shape))] += gradient
    assert float(total) == pytest.approx(value, rel=1e-5)
    assert_all_near(gradients_of(model), expected)


def test_the_step_with_the_best_tradeoff_is_kept_and_its_candidate_is_the_assistant(run):
    found = run()
    request, supernet = found.supernets[0]
    rows = supernet["evaluations"]
    steps = sorted({row["step"] for row in rows if row["step"] is not None})
    assert len(steps) > 3

    def best(step):
        scored = [row for row in rows if row["step"] == step and row["scale"] > STUDENT_SCALE]
        return max(tradeoff(row["metric"], row["scale"], 0.2) for row in scored)

    assert best(None) == pytest.approx(max(map(best, steps)))
    chosen = choose(SupernetFacts.of(supernet).candidates, 0.2, above=STUDENT_SCALE).scale
    assert found.outcome.path == (chosen,)
    assert found.outcome.supernet == supernet
    assert request.config.keep == "best"


def test_the_student_comes_from_a_supernet_of_the_assistant_at_its_own_best_step(run):
    found = run()
    [(_, first), (request, last)] = found.supernets
    assistant = found.outcome.path[0]
    assert request.teacher == Model(first, assistant)
    assert request.lam is None
    assert request.scales == (*(scale for scale in GRID if STUDENT_SCALE < scale <= assistant), STUDENT_SCALE)
    own = [row for row in last["evaluations"] if row["scale"] == STUDENT_SCALE]
    assert own[-1]["metric"] == max(row["metric"] for row in own)
    extract, student = found.last
    assert (extract.kind, student) == ("extract", found.outcome.student)
    assert student["evaluations"][-1]["metric"] == own[-1]["metric"]
    taken, inside = read_weights(found.store, Model(student)), read_weights(found.store, Model(last, STUDENT_SCALE))
    assert taken.structure == inside.structure
    for name, tensor in inside.state.items():
        assert torch.equal(taken.state[name], tensor)


def test_two_assistants_have_a_supernet_each(run):
    found = run(lam=0.0, assistants=2)
    first, second = found.outcome.path
    assert second < first <= 0.5
    assert [request.teacher for request, _ in found.supernets] == [
        None, Model(found.supernets[0][1], first), Model(found.supernets[1][1], second),
    ]  # fmt: skip


def test_the_settings_of_the_code_do_not_touch_those_of_the_user(search):
    changed = published(search).experiment.once_for_all
    own = search.experiment.once_for_all
    assert (changed.epochs, changed.lr, changed.batch_size) == (own.epochs, own.lr, own.batch_size)
    assert published(search).experiment.distillation == search.experiment.distillation


def test_a_grid_without_a_candidate_of_at_most_a_half_is_refused():
    schedule = MinidiscPaper(MinidiscPaperOptions())
    assert schedule.refusal([0.9, 0.7], 0.25) == (
        "grid.scales has too few scales above the student's scale 0.25 and not above 0.5: minidisc_paper needs at "
        "least 1 for its assistants"
    )
    assert schedule.refusal([0.9, 0.5], 0.25) is None
