"""Once-for-all that chooses its assistant before the end, or shares batches out: what it leaves behind and costs."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import Told, changed, executor, search_of, tiny_experiment, weights_of
from tiny_schedules import along, kd_from_supernet, minidisc, minidisc_with
from variants import slow_but

from raydisc.config.sections import DistillationConfig, SandwichConfig, TeacherOutputsConfig
from raydisc.models.build import load_frozen
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.precision import Arithmetic
from raydisc.models.widths import Widths
from raydisc.report.ledger import Ledger
from raydisc.report.show import show
from raydisc.runs.recorder import Recorder
from raydisc.schedules.foresight import foresee
from raydisc.schedules.reinvest import Saved
from raydisc.stages.artifact import Model
from raydisc.stages.distil import Distil
from raydisc.stages.files import read_split, read_table, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.store import ArtifactStore
from raydisc.supernet.sandwich import even_rows
from raydisc.tasks.batching import evaluation_batches
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE
from raydisc.tradeoff import Measured, rank
from raydisc.training.batches import BatchSource
from raydisc.training.checkpoint import evaluations_in, load
from raydisc.training.progress import Evaluated, Ranked, StepsDone

pytestmark = pytest.mark.integration

GRID = (0.9, 0.7, 0.5, 0.4, STUDENT_SCALE)
HALFWAY = {"epochs": 2.0, "choose_at": 0.5}
"""14 steps with the choice after 7."""
BY_SIZE = 1000.0
"""λ by which the smallest assistant always leads."""
LONGER = DistillationConfig(epochs=4.0, lr=3e-3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A storage with what every supernet here is made from."""
    folder = tmp_path_factory.mktemp("prepared")
    executor(folder).run(search_with().prepare())
    return folder


@pytest.fixture(scope="module")
def storage(prepared, tmp_path_factory):
    """One in which tests find what others trained."""
    return shutil.copytree(prepared, tmp_path_factory.mktemp("chosen") / "runs")


@pytest.fixture
def untrained(prepared, tmp_path):
    """One without any supernet."""
    return shutil.copytree(prepared, tmp_path / "runs")


def search_with(**config):
    base = tiny_experiment()
    return search_of(tiny_experiment(once_for_all=changed(base.once_for_all, **config)))


def trained(storage, lam=0.2, assistants=1, progress=lambda found: None, every_s=60.0, **config):
    """The request and its artifact."""
    search, told = search_with(**config), Told()
    run = executor(storage, told, progress, checkpoint_every_s=every_s)
    run.run(minidisc_with(lam, assistants).supernet(search, run.run(search.prepare())))
    request, artifact, _ = told.stages[-1]
    return request, artifact, run.store


def scales(rows):
    return [row["scale"] for row in rows]


def by_step(artifact):
    """The scales that were evaluated after each step, None for the end."""
    rows = artifact["evaluations"]
    return {step: scales(found) for step, found in itertools.groupby(rows, key=lambda row: row["step"])}


SHARED_OUT = SandwichConfig(middle=9, slices=True)


@pytest.mark.parametrize("sandwich", ["all", SHARED_OUT])
@pytest.mark.parametrize(("lam", "rows", "lr"), [(BY_SIZE, 20, 3e-3), (BY_SIZE, None, 3e-3), (0.0, None, 1e-12)])
def test_the_chosen_one_is_trained_on_alone(storage, sandwich, lam, rows, lr):
    """To the last FLOP: everybody up to the choice, then the chosen one, on as many rows as cost the same.

    Of candidates that have learned nothing a larger one is the best.
    """
    request, supernet, store = trained(storage, lam, sandwich=sandwich, evaluation_rows=rows, lr=lr, **HALFWAY)
    assert (supernet["steps"], supernet["planned_steps"], supernet["chosen_at"]) == (14, 14, 7)
    [chosen] = by_step(supernet).pop(None)
    assert by_step(supernet) == {7: list(GRID), None: [chosen]}
    assert (chosen == 0.4) == (lam == BY_SIZE)
    training, evaluating = costs(request, store)
    parts = [slice(None)] * 5 if sandwich == "all" else [slice(4 - place, None, 5) for place in range(5)]
    spent = sum(training(step, scale, part) for step in range(7) for scale, part in zip(GRID, parts, strict=True))
    length = round(float(read_split(store, request.data, "train").lengths.mean()))
    fraction = training(None, 0.4, [length]) / training(None, chosen, [length])
    spent += sum(training(step, chosen, even_rows(8 if step == 13 else 32, fraction)) for step in range(7, 14))
    assert supernet.cost.flops == spent + sum(evaluating(scale, rows) for scale in GRID) + evaluating(chosen)


def test_candidates_are_told_as_the_choice_saw_them(storage):
    _, supernet, store = trained(storage, BY_SIZE, evaluation_rows=20, **HALFWAY)
    at = {(row["step"], row["scale"]): row["metric"] for row in supernet["evaluations"]}
    assert {row["scale"]: row["metric"] for row in supernet["candidates"]} == {scale: at[7, scale] for scale in GRID}
    predicted = read_table(store, supernet, "predictions.arrow").to_pandas()
    assert predicted["scale"].value_counts().to_dict() == dict.fromkeys(GRID, 20)
    for row in supernet["candidates"]:
        own = predicted[predicted["scale"] == row["scale"]]
        right = np.stack(own["prediction"].to_list()).argmax(1) == own["label"]
        assert row["metric"] == right.mean()
    assert at[None, 0.4] * 60 == pytest.approx(round(at[None, 0.4] * 60))


def test_lambda_chooses(storage):
    for lam in (0.0, 0.3):
        _, supernet, _ = trained(storage, lam, **HALFWAY)
        found = [Measured(row["scale"], row["metric"]) for row in supernet["candidates"][:-1]]
        assert by_step(supernet)[None] == [rank(found, lam)[0].scale]


def test_evaluations_are_even_up_to_the_choice(storage):
    _, supernet, _ = trained(storage, BY_SIZE, evaluations=3, epochs=2.0, choose_at=0.9)
    assert list(by_step(supernet)) == [4, 9, 13, None]
    assert supernet["chosen_at"] == 13


def test_a_choice_at_the_last_step_trains_everybody_to_the_end(storage):
    _, supernet, _ = trained(storage, BY_SIZE, epochs=1.0, choose_at=0.99, evaluation_rows=20)
    assert supernet["chosen_at"] is None
    assert by_step(supernet) == {None: list(GRID)}
    assert all(row["metric"] * 60 == pytest.approx(round(row["metric"] * 60)) for row in supernet["candidates"])


def test_the_smaller_half_of_the_assistants(storage):
    search = search_with(candidates="smaller_half")
    for scales_above, kept in (((0.9, 0.7, 0.5, 0.4), (0.5, 0.4)), ((0.9, 0.7, 0.5), (0.7, 0.5)), ((0.9,), (0.9,))):
        grid = changed(search.experiment.grid, scales=[*scales_above, 0.1])
        of_grid = replace(search, experiment=changed(search.experiment, grid=grid))
        ready = executor(storage).run(of_grid.prepare())
        told = foresee(minidisc_with().supernet(of_grid, ready), ONE_THREAD, lambda key: None)
        assert told[-1][0].scales == (*kept, STUDENT_SCALE)
    assert trained(storage, candidates="smaller_half")[1]["candidates"][0]["scale"] == 0.5


def test_several_assistants_train_everybody_to_the_end(storage):
    _, supernet, _ = trained(storage, BY_SIZE, 2, candidates="smaller_half", **HALFWAY)
    assert scales(supernet["candidates"]) == list(GRID)
    assert by_step(supernet) == {None: list(GRID)}


def test_a_run_shows_the_choice(storage, tmp_path):
    """From the stage by way of the ledger to what `show` says, ranked by the λ that it was made by."""
    request, supernet, store = trained(storage, BY_SIZE, **HALFWAY)
    ledger = Ledger(tmp_path / "ledger")
    Recorder(ledger, store, "r", "job", Arithmetic(1), "accuracy").stage(request, supernet, found=False)
    shown = show(ledger, "r")
    assert [(row["scale"], row["place"]) for row in shown["candidates"]] == [
        (0.4, 1), (0.5, 2), (0.7, 3), (0.9, 4),
    ]  # fmt: skip
    assert shown["candidates"][0]["win_share"] == 1.0
    finals = [row["value"] for row in ledger.rows("metrics", split="validation") if row["step"] is None]
    assert [row["final_metric"] for row in shown["candidates"]] == [*finals, None, None, None]
    assert {row["lam"] for row in shown["candidates"]} == {BY_SIZE}
    assert all(step["early"] for step in shown["break_points"])


def costs(request, store, batch_size=32):
    """What a step of a scale costs, on the batch or on some rows of it, and what an evaluation of it does."""
    weights = read_weights(store, Model(request.importance))
    cost = ForwardCost.of(load_frozen(weights.config, weights.structure, weights.state), weights.config)
    source = BatchSource(read_split(store, request.data, "train"), batch_size, 0, 0, torch.device("cpu"))

    def widths(scale) -> Widths:
        return read_candidate(store, request.importance, scale).structure

    def training(step, scale, rows=slice(None)):
        lengths = np.array(rows) if step is None else source.split.lengths[source.rows(step)][rows]
        return STEP_FORWARDS * cost.flops(widths(scale), len(lengths), int(lengths.max(initial=0)))

    def evaluating(scale, rows=None):
        found = read_split(store, request.data, "validation", rows).lengths
        batches = [found[chosen] for chosen in evaluation_batches(found, 64)]
        return sum(cost.flops(widths(scale), len(lengths), int(lengths.max())) for lengths in batches)

    return training, evaluating


@pytest.mark.parametrize("batch_size", [32, 199])
def test_a_batch_is_shared_out(storage, batch_size):
    """Of 199 rows one is left for the last batch: it goes to the student's own candidate."""
    request, supernet, store = trained(storage, sandwich=SHARED_OUT, batch_size=batch_size)
    training, evaluating = costs(request, store, batch_size)
    steps = -(-200 // batch_size)
    assert supernet["steps"] == steps
    shares = [(scale, slice(4 - place, None, 5)) for place, scale in enumerate(GRID)]
    spent = sum(training(step, scale, rows) for step in range(steps) for scale, rows in shares)
    assert supernet.cost.flops == spent + sum(map(evaluating, GRID))


# stages that die and go on


class Killed(BaseException):
    """What a killed process looks like from inside."""


@pytest.mark.parametrize("died_after", [6, 10])
def test_a_stage_goes_on_with_the_same_choice_and_bits(storage, untrained, died_after):
    """Whether it died before its choice or after it."""
    config = {"sandwich": SandwichConfig(middle=2, draw="uniform"), "evaluation_rows": 20, **HALFWAY}
    _, straight, store = trained(storage, **config)

    def progress(found):
        if found.stage == "once_for_all" and found.step == died_after:
            raise Killed

    with pytest.raises(Killed):
        trained(untrained, progress=progress, every_s=0.0, **config)
    [folder] = (untrained / "artifacts").glob("*.partial")
    assert load(folder).step == died_after - 1
    heard = []
    _, resumed, again = trained(untrained, progress=heard.append, **config)
    steps = [found.step for found in heard if found.stage == "once_for_all" and isinstance(found.event, StepsDone)]
    assert steps[:2] == [0, died_after]
    assert_same(resumed, straight)
    assert weights_of(again, resumed) == weights_of(store, straight)


def assert_same(resumed, straight):
    assert resumed.facts == straight.facts
    assert resumed.cost.flops == straight.cost.flops
    assert resumed.blobs == straight.blobs


def test_a_stage_that_died_while_its_artifact_was_put_together_goes_on(storage, untrained, monkeypatch):
    _, straight, _ = trained(storage, **HALFWAY)
    commit = ArtifactStore.commit

    def dying(store, promise, facts, cost, blobs):
        def die(path):
            raise Killed

        return commit(store, promise, facts, cost, {**blobs, "zzz": die} if promise.kind == "once_for_all" else blobs)

    monkeypatch.setattr(ArtifactStore, "commit", dying)
    with pytest.raises(Killed):
        trained(untrained, every_s=0.0, **HALFWAY)
    monkeypatch.undo()
    [folder] = (untrained / "artifacts").glob("*.partial")
    kept = load(folder)
    assert kept.step == 14
    heard = []
    _, resumed, _ = trained(untrained, progress=heard.append, **HALFWAY)
    assert_same(resumed, straight)
    # whoever watches learns what the earlier process chose by
    [ranked] = [found.event.candidates for found in heard if isinstance(found.event, Ranked)]
    evaluated = [found.event for found in heard if isinstance(found.event, Evaluated)]
    assert [event.evaluation for event in evaluated] == kept.evaluations[-1:], "none but the checkpoint's last"
    assert [candidate.scale for candidate in ranked] == list(GRID)


def test_a_choice_that_no_checkpoint_remembers_is_made_again(storage, untrained):
    _, straight, _ = trained(storage, **HALFWAY)

    def progress(found):
        if found.stage == "once_for_all" and isinstance(found.event, Evaluated):
            raise Killed

    with pytest.raises(Killed):
        trained(untrained, progress=progress, every_s=0.0, **HALFWAY)
    [folder] = (untrained / "artifacts").glob("*.partial")
    assert evaluations_in(folder) == []
    _, resumed, _ = trained(untrained, **HALFWAY)
    assert_same(resumed, straight)


# schedules


def run(storage, schedule):
    told = Told()
    return executor(storage, told).run(schedule), told


def test_minidisc_and_its_control_share_the_supernet(storage):
    search = search_with(**HALFWAY)
    mini, _ = run(storage, minidisc(search, 0.2, 1, False))
    control, _ = run(storage, kd_from_supernet(search, 0.2, 1, False))
    assert control.supernet == mini.supernet
    assert [mini.path] == [tuple(by_step(mini.supernet)[None])]
    other, _ = run(storage, minidisc(search, BY_SIZE, 1, False))
    assert other.supernet != mini.supernet
    assert other.path == (0.4,)


@pytest.mark.parametrize(
    ("epochs", "distilled", "source"),
    slow_but(
        [(0.5, 4.0, "online"), (0.1, 0.7, "auto")],
        [(2.0, 4.0, "auto"), (0.5, 4.0, "auto"), (0.5, 4.0, "online"), (0.1, 0.7, "auto")],
    ),
)
@pytest.mark.parametrize("lam", [0.0, BY_SIZE])
def test_what_was_saved_is_reinvested_in_the_student(storage, epochs, distilled, source, lam):
    """The search costs what the path of the smallest assistant costs, whichever it chose, and whether outputs are kept
    or the model above is run: to one step and what batches differ by in their padding."""
    search = search_with(candidates="smaller_half", sandwich=SandwichConfig(), epochs=epochs, choose_at=0.4)
    sections = {
        "distillation": changed(LONGER, epochs=distilled),
        "teacher_outputs": TeacherOutputsConfig(source=source),
    }
    search = replace(search, experiment=changed(search.experiment, **sections))
    plain, _ = run(storage, minidisc(search, lam, 1, False))
    longer, told = run(storage, minidisc(search, lam, 1, True))
    path, _ = run(storage, along(search, (0.4,)))
    [request] = [request for request, _, _ in told.stages if isinstance(request, Distil)]
    assert longer.supernet == plain.supernet
    assert request.extra == Saved(Model(longer.supernet, 0.4))
    assert longer.student["steps"] > plain.student["steps"] == round(7 * distilled)
    extra = longer.student["steps"] - plain.student["steps"]
    step = (longer.student.cost.flops - plain.student.cost.flops) / extra
    costs = [sum(stage.cost.flops for stage in outcome.own) for outcome in (longer, path)]
    padding = 0.0 if source == "auto" and distilled > 1 else 0.03 * costs[1]
    assert -2 * step - padding <= costs[0] - costs[1] <= padding


def test_several_assistants_leave_nothing_to_reinvest(storage):
    search = search_with(candidates="smaller_half")
    search = replace(search, experiment=changed(search.experiment, distillation=LONGER))
    students = [run(storage, minidisc(search, 0.2, 2, reinvest))[0].student for reinvest in (False, True)]
    assert students[0] == students[1]


def test_nothing_is_reinvested_where_nothing_was_saved(storage):
    search = search_with(sandwich="all", epochs=2.0)
    students = [run(storage, minidisc(search, 0.2, 1, reinvest))[0].student for reinvest in (False, True)]
    assert students[0]["steps"] == students[1]["steps"]
    assert weights_of(executor(storage).store, students[0]) == weights_of(executor(storage).store, students[1])
