"""Once-for-all that is broken off for a choice, the chosen one's training alone, and batches that are shared out."""

import itertools
import json
import shutil
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tiny_runs import Told, changed, executor, search_of, tiny_experiment, weights_of
from tiny_schedules import along, kd_from_supernet, minidisc, minidisc_trial, minidisc_with
from variants import slow_but

from raydisc.config.sections import DistillationConfig, SandwichConfig, TeacherOutputsConfig
from raydisc.models.build import load_frozen
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.precision import Arithmetic
from raydisc.models.task_heads import weights_of as weights_in
from raydisc.models.widths import Widths
from raydisc.report.ledger import Ledger
from raydisc.report.show import show
from raydisc.runs.recorder import Recorder
from raydisc.schedules.foresight import foresee
from raydisc.schedules.reinvest import Saved
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.context import Context
from raydisc.stages.distil import Distil
from raydisc.stages.files import read_split, read_table, read_tensors, read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.once_for_all.model import build_supernet, evaluate_candidates
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.once_for_all.training import OnceForAllTraining, training_of
from raydisc.stages.store import AlteredArtifact, ArtifactStore
from raydisc.stages.training import Known
from raydisc.supernet.sandwich import even_rows
from raydisc.tasks.batching import evaluation_batches
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE
from raydisc.tradeoff import Measured, rank
from raydisc.training.batches import BatchSource
from raydisc.training.checkpoint import load
from raydisc.training.dropout import set_dropout
from raydisc.training.progress import Evaluation, Ranked, StepsDone

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
    """The request for the supernet, its artifact, that of the chosen one's training (None without one), the store."""
    search, told = search_with(**config), Told()
    run = executor(storage, told, progress, checkpoint_every_s=every_s)
    outcome = run.run(minidisc(search, lam, assistants, False))
    [request] = [request for request, _, _ in told.stages if request.kind == "once_for_all"]
    return Trained(request, outcome.supernet, outcome.finalist, run.store, outcome.path)


class Trained(NamedTuple):
    request: OnceForAll
    contest: Artifact
    finalist: Artifact | None
    store: ArtifactStore
    path: tuple[float, ...]


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
    found = trained(storage, lam, sandwich=sandwich, evaluation_rows=rows, lr=lr, **HALFWAY)
    contest, finalist = found.contest, found.finalist
    assert (contest["steps"], contest["planned_steps"], contest["chosen_at"]) == (7, 7, 7)
    [chosen] = found.path
    assert by_step(contest) == {None: list(GRID)}
    assert by_step(finalist) == {None: [chosen]}
    assert (finalist["scale"], finalist["steps"], scales(finalist["candidates"])) == (chosen, 7, [chosen])
    assert (chosen == 0.4) == (lam == BY_SIZE)
    training, evaluating = costs(found.request, found.store)
    parts = [slice(None)] * 5 if sandwich == "all" else [slice(4 - place, None, 5) for place in range(5)]
    spent = sum(training(step, scale, part) for step in range(7) for scale, part in zip(GRID, parts, strict=True))
    assert contest.cost.flops == spent + sum(evaluating(scale, rows) for scale in GRID)
    length = round(float(read_split(found.store, found.request.data, "train").lengths.mean()))
    fraction = training(None, 0.4, [length]) / training(None, chosen, [length])
    spent = sum(training(step, chosen, even_rows(8 if step == 13 else 32, fraction)) for step in range(7, 14))
    assert finalist.cost.flops == spent + evaluating(chosen)
    assert finalist["contest_flops"] == contest.cost.flops


class Undivided(OnceForAllTraining):
    """A training in one go, whose later steps have the chosen candidate alone."""

    def parts(self, step):
        return OnceForAllTraining.parts(self if step < 7 else replace(self, alone=self.candidates[3]), step)


@pytest.mark.parametrize("dropout", [0.0, None])
def test_two_stages_give_the_bits_of_one_training(storage, tmp_path, dropout):
    """With everything that a training state holds: moments, decay of unused tokens, draws of dropout."""
    found = trained(storage, BY_SIZE, dropout=dropout, weight_decay=0.1, evaluations=3, **HALFWAY)
    assert found.path == (0.4,)
    context = Context(found.store, torch.device("cpu"), lambda event: None, tmp_path)
    supernet = build_supernet(found.request, context)
    set_dropout(supernet.model, dropout)
    known = Known(supernet.config, supernet.cost, found.store)
    told = training_of(found.request, known, supernet.candidates)
    undivided = Undivided(**{item.name: getattr(told, item.name) for item in fields(told)} | {"ends_at": None})

    def evaluate(step):
        scored, _, flops = evaluate_candidates(
            supernet,
            supernet.candidates,
            found.request,
            read_split(found.store, found.request.data, "validation"),
            context,
        )
        return Evaluation(step, scored[0].metric), flops

    undivided.run(supernet.model, context, evaluate, undivided.towards.targets(context, undivided.source))
    expected = weights_in(supernet.model)
    kept = read_tensors(found.store, found.finalist, "model.safetensors")
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], expected[name]) for name in kept)


def test_candidates_are_told_as_the_choice_saw_them(storage):
    found = trained(storage, BY_SIZE, evaluation_rows=20, **HALFWAY)
    predicted = read_table(found.store, found.contest, "predictions.arrow").to_pandas()
    assert predicted["scale"].value_counts().to_dict() == dict.fromkeys(GRID, 20)
    for row in found.contest["candidates"]:
        own = predicted[predicted["scale"] == row["scale"]]
        right = np.stack(own["prediction"].to_list()).argmax(1) == own["label"]
        assert row["metric"] == right.mean()
    [alone] = found.finalist["candidates"]
    assert alone["metric"] * 60 == pytest.approx(round(alone["metric"] * 60))
    predicted = read_table(found.store, found.finalist, "predictions.arrow").to_pandas()
    assert predicted["scale"].value_counts().to_dict() == {0.4: 60}


def test_lambda_chooses_and_nothing_but_the_choice_depends_on_it(storage):
    """Who chooses the same shares everything; who does not shares the contest."""
    found = {lam: trained(storage, lam, **HALFWAY) for lam in (0.0, 0.3, BY_SIZE / 2, BY_SIZE)}
    assert len({it.contest.key for it in found.values()}) == 1
    for lam, it in found.items():
        candidates = [Measured(row["scale"], row["metric"]) for row in it.contest["candidates"][:-1]]
        assert it.path == (rank(candidates, lam)[0].scale,)
    assert found[BY_SIZE].finalist == found[BY_SIZE / 2].finalist
    larger = trained(storage, 0.0, lr=1e-12, **HALFWAY)
    smaller = trained(storage, BY_SIZE, lr=1e-12, **HALFWAY)
    assert larger.contest == smaller.contest
    assert larger.path != smaller.path
    assert larger.finalist.key != smaller.finalist.key


def test_another_lambda_computes_only_what_it_chooses_anew(storage, untrained):
    told = Told()
    for lam in (BY_SIZE, BY_SIZE / 2, 0.0):
        executor(untrained, told).run(minidisc(search_with(lr=1e-12, **HALFWAY), lam, 1, False))
    of_teacher = ["teacher_outputs", "once_for_all"]
    alone = ["finalist", "teacher_outputs", "distil"]
    assert told.computed == [*of_teacher, *alone, *alone]


def test_evaluations_are_even_up_to_the_choice(storage):
    contest = trained(storage, BY_SIZE, evaluations=3, epochs=2.0, choose_at=0.9).contest
    assert list(by_step(contest)) == [4, 9, None]
    assert contest["chosen_at"] == 13


def test_a_choice_at_the_last_step_trains_everybody_to_the_end(storage):
    found = trained(storage, BY_SIZE, epochs=1.0, choose_at=0.99, evaluation_rows=20)
    assert (found.contest["chosen_at"], found.finalist) == (None, None)
    assert by_step(found.contest) == {None: list(GRID)}
    assert all(row["metric"] * 60 == pytest.approx(round(row["metric"] * 60)) for row in found.contest["candidates"])
    assert "state.safetensors" not in found.contest.blobs


def test_the_smaller_half_of_the_assistants(storage):
    search = search_with(candidates="smaller_half")
    for scales_above, kept in (((0.9, 0.7, 0.5, 0.4), (0.5, 0.4)), ((0.9, 0.7, 0.5), (0.7, 0.5)), ((0.9,), (0.9,))):
        grid = changed(search.experiment.grid, scales=[*scales_above, 0.1])
        of_grid = replace(search, experiment=changed(search.experiment, grid=grid))
        ready = executor(storage).run(of_grid.prepare())
        told = foresee(minidisc_with().contest(of_grid, ready), ONE_THREAD, lambda key: None)
        assert told[-1][0].scales == (*kept, STUDENT_SCALE)
    assert trained(storage, candidates="smaller_half").contest["candidates"][0]["scale"] == 0.5


def test_several_assistants_train_everybody_to_the_end(storage):
    found = trained(storage, BY_SIZE, 2, candidates="smaller_half", **HALFWAY)
    assert scales(found.contest["candidates"]) == list(GRID)
    assert by_step(found.contest) == {None: list(GRID)}
    assert found.finalist is None


def test_a_run_shows_the_choice(storage, tmp_path):
    """From the stages by way of the ledger to what `show` says: ranked as the choice saw them, and how one ended."""
    told = Told()
    run = executor(storage, told)
    outcome = run.run(minidisc(search_with(**HALFWAY), BY_SIZE, 1, False))
    ledger = Ledger(tmp_path / "ledger")
    search = search_with()
    recorder = Recorder(ledger, run.store, "r", "job", Arithmetic(1), "accuracy")
    for request, artifact, _ in told.stages:
        recorder.stage(request, artifact, found=False)
    recorder.trial(minidisc_trial(STUDENT_SCALE, lam=BY_SIZE), search.subject, outcome)
    shown = show(ledger, "r")
    assert [(row["scale"], row["place"]) for row in shown["candidates"]] == [
        (0.4, 1), (0.5, 2), (0.7, 3), (0.9, 4),
    ]  # fmt: skip
    assert shown["candidates"][0]["win_share"] == 1.0
    assert [row["chosen"] for row in shown["candidates"]] == [True, False, False, False]
    final = outcome.finalist["evaluations"][0]["metric"]
    assert [row["final_metric"] for row in shown["candidates"]] == [final, None, None, None]
    assert {row["lam"] for row in shown["candidates"]} == {BY_SIZE}
    assert not any(step["early"] for step in shown["break_points"])
    [alone] = [stage for stage in shown["stages"] if stage["kind"] == "finalist"]
    assert (alone["scale"], alone["seed"]) == (0.4, 0)
    spent = sum(stage["flops"] for stage in shown["stages"] if stage["kind"] in ("once_for_all", "finalist"))
    assert spent == outcome.supernet.flops + outcome.finalist.flops
    assert shown["trials"][0]["search_flops"] > spent


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
    found = trained(storage, sandwich=SHARED_OUT, batch_size=batch_size)
    supernet, (training, evaluating) = found.contest, costs(found.request, found.store, batch_size)
    steps = -(-200 // batch_size)
    assert supernet["steps"] == steps
    shares = [(scale, slice(4 - place, None, 5)) for place, scale in enumerate(GRID)]
    spent = sum(training(step, scale, rows) for step in range(steps) for scale, rows in shares)
    assert supernet.cost.flops == spent + sum(map(evaluating, GRID))


# stages that die and go on


class Killed(BaseException):
    """What a killed process looks like from inside."""


@pytest.mark.parametrize(
    ("stage", "died_after", "kept"), [("once_for_all", 6, 5), ("once_for_all", 7, 6), ("finalist", 8, None),
                                      ("finalist", 10, 9), ("finalist", 14, 13)],
)  # fmt: skip
def test_a_stage_that_was_killed_goes_on_with_the_same_bits(storage, untrained, stage, died_after, kept):
    """At any step of either stage, also before the first checkpoint of the second."""
    config = {
        "sandwich": SandwichConfig(middle=2, draw="uniform"), "evaluation_rows": 20, "dropout": 0.1, "evaluations": 2,
        **HALFWAY,
    }  # fmt: skip
    straight = trained(storage, **config)

    def progress(found):
        if found.stage == stage and found.step == died_after:
            raise Killed

    with pytest.raises(Killed):
        trained(untrained, progress=progress, every_s=0.0, **config)
    partial = list((untrained / "artifacts").glob("*.partial"))
    assert [load(folder).step for folder in partial] == ([] if kept is None else [kept])
    heard = []
    resumed = trained(untrained, progress=heard.append, **config)
    steps = [found.step for found in heard if found.stage == stage and isinstance(found.event, StepsDone)]
    assert steps[:2] == [0, died_after]
    assert_same(resumed, straight)


def assert_same(resumed, straight):
    for mine, theirs in ((resumed.contest, straight.contest), (resumed.finalist, straight.finalist)):
        assert mine.facts == theirs.facts
        assert mine.cost.flops == theirs.cost.flops
        assert mine.blobs == theirs.blobs


@pytest.mark.parametrize(("stage", "step"), [("once_for_all", 7), ("finalist", 14)])
def test_a_stage_that_died_while_its_artifact_was_put_together_goes_on(storage, untrained, monkeypatch, stage, step):
    straight = trained(storage, **HALFWAY)
    commit = ArtifactStore.commit

    def dying(store, promise, facts, cost, blobs):
        def die(path):
            raise Killed

        return commit(store, promise, facts, cost, {**blobs, "zzz": die} if promise.kind == stage else blobs)

    monkeypatch.setattr(ArtifactStore, "commit", dying)
    with pytest.raises(Killed):
        trained(untrained, every_s=0.0, **HALFWAY)
    monkeypatch.undo()
    [folder] = (untrained / "artifacts").glob("*.partial")
    assert load(folder).step == step
    heard = []
    resumed = trained(untrained, progress=heard.append, **HALFWAY)
    assert_same(resumed, straight)
    # whoever watches learns how the candidates stand, if the earlier process may not have told
    ranked = [[it.scale for it in found.event.candidates] for found in heard if isinstance(found.event, Ranked)]
    assert ranked == ([list(GRID)] if stage == "once_for_all" else [])


def test_a_contest_whose_state_was_altered_is_not_gone_on_with(untrained):
    contest = trained(untrained, BY_SIZE, **HALFWAY).contest
    for key in [path.name for path in (untrained / "artifacts").iterdir() if path.name != contest.key]:
        if json.loads((untrained / "artifacts" / key / "manifest.json").read_text())["kind"] in ("finalist", "distil"):
            shutil.rmtree(untrained / "artifacts" / key)
    path = untrained / "artifacts" / contest.key / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(AlteredArtifact, match="the file state.safetensors is not what was written"):
        trained(untrained, BY_SIZE, **HALFWAY)


# schedules


def run(storage, schedule):
    told = Told()
    return executor(storage, told).run(schedule), told


def test_minidisc_and_its_control_share_the_supernet(storage):
    search = search_with(**HALFWAY)
    mini, of_mini = run(storage, minidisc(search, 0.2, 1, False))
    control, of_control = run(storage, kd_from_supernet(search, 0.2, 1, False))
    assert (control.supernet, control.finalist) == (mini.supernet, mini.finalist)
    starts = [told.stages[-1][0].start for told in (of_mini, of_control)]
    assert starts == [Model(mini.finalist), Model(mini.finalist)]
    for outcome in (mini, control):
        assert mini.supernet in outcome.own
        assert mini.finalist in outcome.own


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
    assert (longer.supernet, longer.finalist) == (plain.supernet, plain.finalist)
    assert request.extra == Saved(Model(longer.finalist or longer.supernet, 0.4))
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
