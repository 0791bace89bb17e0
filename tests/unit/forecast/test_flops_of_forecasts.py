"""A forecast beside what the stages of the same schedule counted when they were run."""

import dataclasses

import pytest
from tiny_runs import PLAIN, Told, changed, executor, search_of, tiny_experiment
from tiny_schedules import kd_trial, maxidisc_trial, minidisc_trial, minidisc_with, takd_trial
from variants import slow_but

from raydisc.config.sections import (
    FineTuneConfig,
    OnceForAllConfig,
    SandwichConfig,
    TeacherConfig,
    TeacherOutputsConfig,
)
from raydisc.errors import InputError
from raydisc.forecast.dry_run import Forecaster, search_cost
from raydisc.schedules.controls import KdEqualCompute, KdFromSupernet
from raydisc.schedules.trials import expand, steps_of
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.importance import read_scores
from raydisc.stages.problem import inspect
from raydisc.testing.runs import ARCHITECTURE, STUDENT_SCALE, TRAINING

pytestmark = pytest.mark.integration

QUICK = TeacherConfig(architecture=ARCHITECTURE, finetune=FineTuneConfig(**TRAINING, curriculum=0.4))
BASE = tiny_experiment(teacher=QUICK)
CHEAP = OnceForAllConfig(**TRAINING, evaluation_rows=32)
"""Once-for-all as it is by default: the smaller half, chosen early, slices."""

MINIDISC = minidisc_trial(STUDENT_SCALE)
EQUAL_COMPUTE, SUPERNET_EQUAL = (
    dataclasses.replace(MINIDISC, schedule=kind.of(MINIDISC.schedule)) for kind in (KdEqualCompute, KdFromSupernet)
)
DECODER = {
    "model_type": "qwen3", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 6, "intermediate_size": 20, "max_position_embeddings": 64,
    "initializer_range": 0.2,
}  # fmt: skip
ENCT5 = {"model_type": "t5", "d_model": 24, "num_layers": 2, "num_heads": 4, "d_kv": 6, "d_ff": 20}
LANGUAGE = {
    "once_for_all": CHEAP,
    "task": changed(BASE.task, metric="token_likelihood", max_length=12),
    "teacher": changed(QUICK, architecture=DECODER | {"tie_word_embeddings": True}),
}
TAGS = {"once_for_all": CHEAP, "task": changed(BASE.task, metric="span_f1")}
TRIALS = {
    "tagged words": (MINIDISC, TAGS),
    "tagged words of EncT5, online": (
        MINIDISC,
        TAGS
        | {"teacher": changed(QUICK, architecture=ENCT5), "teacher_outputs": TeacherOutputsConfig(source="online")},
    ),
    "a language model": (MINIDISC, LANGUAGE),
    "a language model, online": (MINIDISC, LANGUAGE | {"teacher_outputs": TeacherOutputsConfig(source="online")}),
    "a language model, equal compute": (EQUAL_COMPUTE, LANGUAGE),
    "a decoder": (MINIDISC, {"once_for_all": CHEAP, "teacher": changed(QUICK, architecture=DECODER)}),
    "EncT5": (MINIDISC, {"once_for_all": CHEAP, "teacher": changed(QUICK, architecture=ENCT5)}),
    "uniform": (MINIDISC, {"once_for_all": CHEAP, "grid": changed(BASE.grid, allocation="uniform")}),
    "kd": (kd_trial(STUDENT_SCALE, 1), {}),
    "takd": (takd_trial(STUDENT_SCALE, (0.7, 0.4)), {}),
    "maxidisc": (maxidisc_trial(STUDENT_SCALE, (0.5,)), {}),
    "minidisc": (MINIDISC, {"once_for_all": CHEAP}),
    "minidisc to the end": (minidisc_trial(STUDENT_SCALE, reinvest=False), {}),
    "minidisc of two": (minidisc_trial(STUDENT_SCALE, assistants=2), {}),
    "equal compute": (EQUAL_COMPUTE, {"once_for_all": CHEAP}),
    "supernet's weights": (SUPERNET_EQUAL, {"once_for_all": CHEAP}),
    "all in every step": (MINIDISC, {"once_for_all": changed(CHEAP, sandwich="all", candidates="all")}),
    "two drawn by cost": (
        MINIDISC,
        {"once_for_all": changed(BASE.once_for_all, sandwich=SandwichConfig(draw="cost", middle=2))},
    ),
    "online": (MINIDISC, {"once_for_all": CHEAP, "teacher_outputs": TeacherOutputsConfig(source="online")}),
    "less than an epoch": (
        MINIDISC,
        {"once_for_all": changed(CHEAP, epochs=0.7), "distillation": changed(BASE.distillation, epochs=0.6)},
    ),
    "evaluated often": (
        minidisc_trial(STUDENT_SCALE, reinvest=False),
        {
            "once_for_all": OnceForAllConfig(**TRAINING, **PLAIN | {"evaluation_rows": 20}, evaluations=3),
            "distillation": changed(BASE.distillation, patience=100, epochs=2.0),
        },
    ),
}


ALWAYS = (
    "a language model",
    "tagged words of EncT5, online",
    "takd",
    "minidisc of two",
    "equal compute",
    "evaluated often",
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def ran(experiment, trial, storage):
    """What the stages of a trial that is really run counted, by key; its choice, its scores, its outcome."""
    search, told = search_of(experiment, trial.seed, trial.student_scale), Told()
    run = executor(storage, told)
    outcome = run.run(steps_of(trial, experiment, search.subject))
    data = next(artifact for request, artifact, _ in told.stages if request.kind == "tokenise")
    run.execute(Evaluate(data, outcome.student))
    importance = next(artifact for request, artifact, _ in told.stages if request.kind == "importance")
    counted = {artifact.key: (request.kind, artifact.flops) for request, artifact, _ in told.stages}
    supernets = [request for request, _, _ in told.stages if request.kind == "once_for_all"]
    return counted, outcome, read_scores(run.store, importance), supernets


def chosen_path(told_outcome, supernets, trial, storage, experiment):
    """The assistants that MiniDisc chose in a run, also where a control stands beside it."""
    if not supernets:
        return ()
    return ran(experiment, trial.rival or trial, storage)[1].path


@pytest.mark.parametrize("named", slow_but(ALWAYS, TRIALS))
def test_a_forecast_counts_what_the_stages_count(named, storage, tmp_path):
    """To the last FLOP where the importance is known; with every layer's share the same, as near as makes no odds."""
    trial, changes = TRIALS[named]
    experiment = tiny_experiment(**{"teacher": QUICK, **changes})
    counted, outcome, scores, supernets = ran(experiment, trial, storage)
    path = chosen_path(outcome, supernets, trial, storage, experiment)
    subject = inspect(experiment, weights=False)
    for known, tolerance in ((scores, 0.0), (None, 0.15)):
        forecaster = Forecaster(experiment, subject, tmp_path / str(tolerance), known)
        forecasts = {found.assistants: found for found in forecaster.forecasts(trial)}
        forecast = forecasts[path]
        predicted = [(stage.request.kind, stage.artifact.flops) for stage in forecast.stages]
        assert [kind for kind, _ in predicted] == [kind for kind, _ in counted.values()]
        for (kind, mine), (_, real) in zip(predicted, counted.values(), strict=True):
            assert mine == pytest.approx(real, rel=tolerance, abs=0), kind
        free = {"tokenise", "finetune", "evaluate"}
        spent = sum(flops for kind, flops in counted.values() if kind not in free)
        if not trial.schedule.is_control:  # which may compute more than it depends on
            assert forecast.flops == pytest.approx(spent, rel=tolerance or 1e-12)


def test_equal_compute_is_forecast_to_cost_what_minidisc_costs(tmp_path):
    experiment = tiny_experiment(teacher=QUICK, once_for_all=CHEAP)
    forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path)
    for mine, theirs in zip(forecaster.forecasts(EQUAL_COMPUTE), forecaster.forecasts(MINIDISC), strict=True):
        assert mine.assistants == theirs.assistants
        assert 0.95 * theirs.flops < mine.flops <= theirs.flops


def test_every_choice_that_the_tradeoff_can_make_is_looked_at(tmp_path):
    experiment = tiny_experiment(teacher=QUICK)
    forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path)

    def choices(**options):
        return [found.assistants for found in forecaster.forecasts(minidisc_trial(STUDENT_SCALE, **options))]

    assert choices() == [(0.9,), (0.7,), (0.5,), (0.4,)]
    assert choices(lam=2.2) == [(0.7,), (0.5,), (0.4,)]  # .9 would have to be better than perfect
    assert choices(lam=50.0) == [(0.4,)]
    assert choices(assistants=2) == [
        (0.9, 0.7), (0.9, 0.5), (0.9, 0.4), (0.7, 0.5), (0.7, 0.4), (0.5, 0.4),
        (0.4,),  # below which there is no other
    ]  # fmt: skip
    assert [choice.path for choice in minidisc_with(3.0).choices((0.9, 0.4, 0.25))] == [(0.4,)]


def test_shared_stages_are_one_stage_and_a_search_costs_each_once(tmp_path):
    experiment = tiny_experiment(teacher=QUICK, once_for_all=CHEAP)
    forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path)
    stages, students = {}, []
    for trial in expand(experiment, [STUDENT_SCALE]):
        if trial.schedule.name == "maxidisc":
            [forecast] = forecaster.forecasts(trial)
            stages |= {stage.key: stage for stage in forecast.stages}
            students.extend(forecast.ends)
    kinds = [stage.request.kind for stage in stages.values()]
    assert kinds.count("importance") == 1
    assert kinds.count("distil") == 2 * len(students) == 8
    searched = sum(stage.artifact.flops for stage in stages.values() if stage.searched)
    assert search_cost(stages.values(), students).flops == pytest.approx(searched, rel=1e-12)


def test_outputs_that_do_not_fit_are_refused_as_by_a_run(tmp_path):
    experiment = tiny_experiment(teacher=QUICK, teacher_outputs=TeacherOutputsConfig(source="memory", budget_gib=2e-4))
    forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path)
    with pytest.raises(InputError, match="do not fit budget_gib"):
        forecaster.forecasts(MINIDISC)


@pytest.mark.parametrize("named", ["minidisc", "a language model", "tagged words"])
def test_bytes_left_behind_are_those_of_the_files(named, storage, tmp_path):
    """Within a hundredth, or a kilobyte or two of headers in files as small as these."""
    experiment = tiny_experiment(**{"teacher": QUICK, **TRIALS[named][1]})
    run = executor(storage)
    subject = inspect(experiment)
    outcome = run.run(steps_of(MINIDISC, experiment, subject))
    forecaster = Forecaster(experiment, subject, tmp_path)
    [forecast] = [found for found in forecaster.forecasts(MINIDISC) if found.assistants == outcome.path]
    told = Told()
    executor(storage, told).run(steps_of(MINIDISC, experiment, subject))
    for stage, (request, artifact, _) in zip(forecast.stages, told.stages, strict=False):
        real = sum(run.store.path(artifact, name).stat().st_size for name in artifact.blobs)
        assert stage.request.kind == request.kind
        # the header of a training state names two moments of every weight
        headers = 37_000 if "state.safetensors" in artifact.blobs else 12_000
        assert stage.stored == pytest.approx(real, rel=0.01, abs=headers), request.kind
