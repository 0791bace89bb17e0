"""Once-for-all that leaves candidates out, ends early and shares batches out: what it leaves behind and costs."""

import itertools
import shutil

import pytest
import torch
from tiny_runs import STUDENT, Told, changed, executor, search_of, tiny_experiment, weights_of

from raydisc.distillation.checkpoint import evaluations_in, load
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.dense import load_frozen
from raydisc.models.precision import Arithmetic
from raydisc.models.widths import Widths
from raydisc.report.ledger import Ledger
from raydisc.report.show import show
from raydisc.runtime.records import Recorder
from raydisc.schedules.controls import kd_supernet_init
from raydisc.schedules.minidisc import minidisc
from raydisc.settings import SandwichConfig
from raydisc.stages.batches import BatchSource
from raydisc.stages.context import read_split, read_table, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.requests import Distil, Model
from raydisc.tasks.batching import evaluation_batches
from raydisc.tradeoff import rank

pytestmark = pytest.mark.integration

GRID = (0.9, 0.7, 0.5, 0.4, STUDENT)
TWICE = {"epochs": 2.0, "evaluations": 4}
"""14 steps with evaluations after 4, 7, 10 and the last."""
BY_SIZE = 1000.0
"""λ by which the smallest assistant always leads and no larger one can ever win."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A storage with what every supernet here is made from."""
    folder = tmp_path_factory.mktemp("prepared")
    executor(folder).run(search_with().prepare())
    return folder


@pytest.fixture(scope="module")
def storage(prepared, tmp_path_factory):
    """One in which tests find what others trained."""
    return shutil.copytree(prepared, tmp_path_factory.mktemp("narrowed") / "runs")


@pytest.fixture
def untrained(prepared, tmp_path):
    """One without any supernet."""
    return shutil.copytree(prepared, tmp_path / "runs")


def search_with(**config):
    base = tiny_experiment()
    return search_of(tiny_experiment(once_for_all=changed(base.once_for_all, **config)))


def trained(storage, lam=0.2, assistants=1, progress=lambda state: None, every_s=60.0, **config):
    """The request and its artifact."""
    search, run = search_with(**config), executor(storage, progress=progress, checkpoint_every_s=every_s)
    request = search.once_for_all(run.run(search.prepare()), lam, assistants)
    return request, run.execute(request), run.store


def scales(rows):
    return [row["scale"] for row in rows]


def by_step(artifact):
    """The scales that were evaluated after each step, None for the end."""
    rows = artifact["evaluations"]
    return {step: scales(found) for step, found in itertools.groupby(rows, key=lambda row: row["step"])}


def test_halving_leaves_the_worse_out_and_says_when(storage):
    request, supernet, store = trained(storage, narrow=["halving"], **TWICE)
    evaluated = by_step(supernet)
    assert [len(found) for found in evaluated.values()] == [5, 3, 2, 2]
    assert list(evaluated) == [4, 7, 10, None]
    assert evaluated[None] == scales(supernet["candidates"])
    assert sorted(scales(supernet["candidates"]) + scales(supernet["left_out"]), reverse=True) == list(GRID)
    rows = {(row["step"], row["scale"]): row["metric"] for row in supernet["evaluations"]}
    assert sorted(row["step"] for row in supernet["left_out"]) == [4, 4, 7]
    assert [row["metric"] for row in supernet["left_out"]] == [
        rows[row["step"], row["scale"]] for row in supernet["left_out"]
    ]
    # by the metrics of each evaluation, the student's own candidate apart
    for before, after in ((4, 7), (7, 10)):
        found = [_Scored(scale, rows[before, scale]) for scale in evaluated[before][:-1]]
        kept = sorted((best.scale for best in rank(found, 0.2)[: (len(found) + 1) // 2]), reverse=True)
        assert evaluated[after] == [*kept, STUDENT]
    predicted = read_table(store, supernet, "predictions.arrow").to_pandas()
    assert sorted(predicted["scale"].unique(), reverse=True) == evaluated[None]
    assert (supernet["steps"], supernet["planned_steps"]) == (14, 14)


class _Scored:
    def __init__(self, scale, metric):
        self.scale, self.metric = scale, metric


def test_the_ceiling_is_the_teachers_validation_metric(storage):
    request, _, _ = trained(storage)
    run = executor(storage)
    ready = run.run(search_with().prepare())
    assert request.importance["teacher_metric"] == ready.finetuned["evaluations"][-1]["metric"]
    assert ready.finetuned["evaluations"][-1]["split"] == "validation"


def test_ceiling_never_trains_what_cannot_win_and_costs_what_it_trains(storage):
    """To the last FLOP, and what was saved is the rest of what training everybody would have cost."""
    config = {"narrow": ["ceiling"], "sandwich": "all", "epochs": 2.0, "evaluations": 2}
    request, supernet, store = trained(storage, BY_SIZE, **config)
    assert by_step(supernet) == {7: [0.5, 0.4, STUDENT], None: [0.4, STUDENT]}
    last = {(row["step"], row["scale"]): row["metric"] for row in supernet["evaluations"]}
    assert supernet["left_out"] == [
        {"scale": 0.9, "step": None, "metric": None},
        {"scale": 0.7, "step": None, "metric": None},
        {"scale": 0.5, "step": 7, "metric": last[7, 0.5]},
    ]
    training, evaluating = costs(request, store)
    live = [*[(0.5, 0.4, STUDENT)] * 7, *[(0.4, STUDENT)] * 7]
    spent = sum(training(step, scale) for step, found in enumerate(live) for scale in found)
    spent += sum(evaluating(scale) for scale in (0.5, 0.4, STUDENT))
    assert supernet.cost.flops == spent + sum(evaluating(scale) for scale in (0.4, STUDENT))
    assert supernet["saved_flops"] == sum(training(step, scale) for step in range(14) for scale in GRID) - spent


def costs(request, store, batch_size=32):
    """What a step of a scale costs, on the batch or on some rows of it, and what an evaluation of it does."""
    weights = read_weights(store, Model(request.importance))
    cost = ForwardCost.of(load_frozen(weights.config, weights.widths, weights.state), weights.config)
    train, validation = (read_split(store, request.data, split) for split in ("train", "validation"))
    source = BatchSource(train, batch_size, 0, 0, torch.device("cpu"))

    def widths(scale) -> Widths:
        return read_candidate(store, request.importance, scale).widths

    def training(step, scale, rows=slice(None)):
        lengths = source.lengths(step)[rows]
        return STEP_FORWARDS * cost.flops(widths(scale), len(lengths), int(lengths.max(initial=0)))

    def evaluating(scale):
        batches = [validation.lengths[rows] for rows in evaluation_batches(validation.lengths, 64)]
        return sum(cost.flops(widths(scale), len(lengths), int(lengths.max())) for lengths in batches)

    return training, evaluating


def test_a_run_shows_who_was_left_out(storage, tmp_path):
    """From the stage by way of the ledger to what `show` says, ranked by the λ that it was trained by."""
    config = {"narrow": ["ceiling"], "sandwich": "all", "epochs": 2.0, "evaluations": 2}
    request, supernet, store = trained(storage, BY_SIZE, **config)
    ledger = Ledger(tmp_path / "ledger")
    Recorder(ledger, store, "r", "job", Arithmetic(1), "accuracy").stage(request, supernet, found=False)
    shown = show(ledger, "r")
    assert [(row["scale"], row["place"]) for row in shown["candidates"]] == [(0.4, 1)]
    assert [{name: row[name] for name in ("scale", "step", "metric")} for row in shown["left_out"]] == list(
        supernet["left_out"]
    )
    assert {row["lam"] for row in (*shown["candidates"], *shown["left_out"])} == {BY_SIZE}


def test_several_assistants_keep_everybody(storage):
    _, supernet, _ = trained(storage, BY_SIZE, 2, narrow=["ceiling"], settled=-1.0, **TWICE)
    assert scales(supernet["candidates"]) == list(GRID)
    assert (supernet["left_out"], supernet["steps"]) == ([], 14)


def test_it_ends_early_when_the_ranking_has_settled(storage):
    """By size alone every evaluation ranks the same: the second one ends it."""
    request, supernet, store = trained(storage, BY_SIZE, settled=1.0, sandwich="all", **TWICE)
    assert (supernet["steps"], supernet["planned_steps"]) == (7, 14)
    assert list(by_step(supernet)) == [4, 7, None]
    assert scales(supernet["candidates"]) == list(GRID)
    assert supernet["left_out"] == []
    metrics = [[row["metric"] for row in supernet["evaluations"] if row["step"] == step] for step in (7, None)]
    assert metrics[0] == metrics[1]  # of the same weights
    training, evaluating = costs(request, store)
    rest = sum(training(step, scale) for step in range(7, 14) for scale in GRID)
    assert supernet["saved_flops"] == rest - 2 * sum(map(evaluating, GRID))


@pytest.mark.parametrize("batch_size", [32, 199])
def test_a_batch_is_shared_out(storage, batch_size):
    """Of 199 rows one is left for the last batch: it goes to the student's own candidate."""
    everybody = SandwichConfig(middle=9, slices=True)
    request, supernet, store = trained(storage, sandwich=everybody, batch_size=batch_size)
    training, evaluating = costs(request, store, batch_size)
    steps = -(-200 // batch_size)
    assert supernet["steps"] == steps
    shares = [(scale, slice(4 - place, None, 5)) for place, scale in enumerate(GRID)]
    spent = sum(training(step, scale, rows) for step in range(steps) for scale, rows in shares)
    assert supernet.cost.flops == spent + sum(map(evaluating, GRID))
    assert supernet["saved_flops"] == 0.0


def test_evaluations_before_the_last_look_at_fewer_rows(storage):
    _, supernet, store = trained(storage, narrow=["halving"], evaluation_rows=20, **TWICE)
    for row in supernet["evaluations"]:
        rows = 60 if row["step"] is None else 20
        assert row["metric"] * rows == pytest.approx(round(row["metric"] * rows))
    assert len(read_table(store, supernet, "predictions.arrow").to_pandas()) == 60 * len(supernet["candidates"])


# stages that die and go on


class Killed(BaseException):
    """What a killed process looks like from inside."""


CONFIGS = {
    "ceiling": {"narrow": ["ceiling"], "sandwich": SandwichConfig(largest=True, draw="cost")},
    "halving": {"narrow": ["halving"], "sandwich": SandwichConfig(middle=2, slices=True, draw="importance")},
    "settled": {"narrow": ["halving"], "settled": 1.0},
}


@pytest.mark.parametrize("named", CONFIGS)
def test_a_narrowed_stage_goes_on_with_the_same_candidates_and_bits(storage, untrained, named):
    config = CONFIGS[named] | TWICE | ({"evaluations": 5} if named == "settled" else {})
    _, straight, store = trained(storage, **config)

    def progress(state):
        if state["stage"] == "once_for_all" and state["step"] == 6:
            raise Killed

    with pytest.raises(Killed):
        trained(untrained, progress=progress, every_s=0.0, **config)
    [folder] = (untrained / "artifacts").glob("*.partial")
    assert load(folder).step == 5
    assert len(evaluations_in(folder)) == 1
    heard = []
    _, resumed, again = trained(untrained, progress=heard.append, **config)
    assert [state["step"] for state in heard if state["stage"] == "once_for_all"][:2] == [0, 6]
    assert resumed.facts == straight.facts
    assert resumed.cost.flops == straight.cost.flops
    assert resumed.blobs == straight.blobs
    assert weights_of(again, resumed) == weights_of(store, straight)


def test_a_stage_that_was_over_when_it_was_killed_trains_no_further(storage, untrained):
    config = {"narrow": ["halving"], "settled": -1.0, **TWICE}
    _, straight, _ = trained(storage, BY_SIZE, **config)
    assert straight["steps"] == 7
    assert scales(straight["candidates"]) == [0.5, 0.4, STUDENT]  # all of the evaluation that ended it

    def progress(state):
        if state["stage"] == "once_for_all" and "candidates" in state and "finished" not in state:
            raise Killed

    with pytest.raises(Killed):
        trained(untrained, BY_SIZE, progress=progress, every_s=0.0, **config)
    [folder] = (untrained / "artifacts").glob("*.partial")
    assert evaluations_in(folder)[-1]["finished"]
    _, resumed, _ = trained(untrained, BY_SIZE, **config)
    assert resumed.facts == straight.facts
    assert resumed.cost.flops == straight.cost.flops
    assert resumed.blobs == straight.blobs


# schedules


def run(storage, schedule):
    told = Told()
    return executor(storage, told).run(schedule), told


def test_minidisc_and_its_control_share_the_narrowed_supernet(storage):
    search = search_with(narrow=["halving"], **TWICE)
    mini, _ = run(storage, minidisc(search, 0.2, 1, False))
    control, _ = run(storage, kd_supernet_init(search, 0.2, 1))
    assert control.supernet == mini.supernet
    best = rank([_Scored(row["scale"], row["metric"]) for row in mini.supernet["candidates"][:-1]], 0.2)[0]
    assert mini.path == (best.scale,)
    other, told = run(storage, minidisc(search, BY_SIZE, 1, False))
    assert other.supernet != mini.supernet
    assert other.path == (0.4,)


def test_what_was_saved_is_reinvested_in_the_student(storage):
    search = search_with(narrow=["ceiling"], sandwich="all", epochs=2.0, evaluations=2)
    plain, _ = run(storage, minidisc(search, BY_SIZE, 1, False))
    longer, told = run(storage, minidisc(search, BY_SIZE, 1, True))
    [request] = [request for request, _, _ in told.stages if isinstance(request, Distil)]
    assert longer.supernet == plain.supernet
    assert request.extra_flops == longer.supernet["saved_flops"] > 0
    more = longer.student.cost.flops - plain.student.cost.flops
    step = plain.student.cost.flops / 7
    assert request.extra_flops <= more <= request.extra_flops + 2 * step
    students = [run(storage, minidisc(search_with(), 0.2, 1, reinvest))[0].student for reinvest in (False, True)]
    assert students[0] == students[1]  # nothing was saved
