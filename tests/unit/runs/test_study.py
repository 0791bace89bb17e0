"""Searches: what a sampler proposes depends on results and the seed alone, also after a kill."""

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import ONE_THREAD, tiny_experiment, tokens_known
from tiny_runs import STUDENT_SCALE as STUDENT
from tiny_schedules import kd_trial

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError
from raydisc.runs import sampling
from raydisc.runs.jobs import Jobs
from raydisc.runs.journal import JOURNAL, Journal
from raydisc.runs.proposals import Grid, Planner, TrialResult
from raydisc.runs.sampling import refuse_missing_sampler
from raydisc.runs.sources import Together, asked_of, begun
from raydisc.runs.study import Study
from raydisc.schedules.base import Trial
from raydisc.schedules.optuna import Optuna
from raydisc.schedules.trials import expand
from raydisc.stages.problem import inspect
from raydisc.storage.folder import Storage

ABOVE = (0.9, 0.7, 0.5, 0.4)
SPACE: dict[str, Any] = {
    "path": {"assistants": 2},
    "distillation.lr": {"low": 1e-5, "high": 1e-2, "log": True},
    "distillation.temperature": {"choices": [1.0, 2.0, 4.0]},
}


def search(**options: Any) -> Optuna:
    schedule = ScheduleConfig.model_validate({"optuna": {"trials": 12, "space": SPACE, "at_once": 1, **options}})
    found = schedule.schedule()
    assert isinstance(found, Optuna)
    return found


def study(schedule: Optuna, folder: Path, experiment: str = "mine", seed: int = 0) -> Study:
    return Study(schedule, ABOVE, STUDENT, seed, Journal(Storage(folder), experiment))


def result_of(trial: Trial) -> TrialResult:
    """What comes of a trial: better near one learning rate, and dearer with more assistants."""
    lr = dict(trial.settings)["distillation.lr"]
    return TrialResult("finished", 1 / (1 + abs(lr - 1e-3) * 1e3), flops=1e9 * (1 + len(trial.path)))


def run(source: Study, most: int = 100, late: int = 0) -> list[str]:
    """Run trials until the source has no more, or until a number of results; ``late`` trials are open meanwhile."""
    proposed: list[str] = []
    waiting: list[Trial] = []
    told = 0
    while told < most:
        while (trial := source.next()) is not None:
            proposed.append(trial.name)
            waiting.append(trial)
        if not waiting:
            return proposed
        trial = waiting.pop(min(late, len(waiting) - 1))
        source.tell(trial, result_of(trial))
        told += 1
    return proposed


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "gp"])
def test_a_search_that_is_killed_proposes_what_it_would_have_proposed(sampler: str, tmp_path: Path) -> None:
    schedule = search(sampler=sampler)
    undisturbed = run(study(schedule, tmp_path / "undisturbed"))
    assert len(undisturbed) == len(set(undisturbed)) == 12
    for results in (1, 5, 8):
        begun = run(study(schedule, tmp_path / "killed"), results)
        assert begun == undisturbed[: len(begun)]
    assert run(study(schedule, tmp_path / "killed")) == undisturbed
    assert run(study(search(sampler=sampler, seed=1), tmp_path / "other")) != undisturbed


def test_proposals_do_not_depend_on_which_of_the_open_trials_ends_first(tmp_path: Path) -> None:
    schedule = search(at_once=3)
    one_after_another = run(study(schedule, tmp_path / "first"))
    assert run(study(schedule, tmp_path / "last"), late=2) == one_after_another
    begun = run(study(schedule, tmp_path / "killed"), 7, late=1)
    assert begun == one_after_another[: len(begun)]
    assert run(study(schedule, tmp_path / "killed")) == one_after_another


def test_a_sampler_learns_from_results(tmp_path: Path) -> None:
    source = study(search(sampler="tpe", trials=30), tmp_path)
    found: list[float] = []
    while (trial := source.next()) is not None:
        found.append(result_of(trial).metric or 0.0)
        source.tell(trial, result_of(trial))
    assert sum(found[-10:]) > 1.2 * sum(found[:7]) / 7 * 10


def test_the_journal_is_a_study_of_optuna(tmp_path: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    source = study(search(at_once=2), tmp_path)
    first, second = source.next(), source.next()
    assert first
    assert second
    assert source.next() is None
    source.tell(first, TrialResult("finished", 0.75))
    source.tell(second, TrialResult("stopped early", 0.5, flops=2e9, curve=((1e9, 0.4), (2e9, 0.5))))
    third = source.next()
    assert third
    source.tell(third, TrialResult("failed", message="the loss was not finite"))
    storage = JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    [name] = optuna.get_all_study_names(storage)
    assert name == "optuna-tpe-to-0.25-seed-0"
    trials = optuna.load_study(study_name=name, storage=storage).get_trials()
    assert [trial.user_attrs["trial"] for trial in trials[:3]] == [first.name, second.name, third.name]
    assert [trial.state.name for trial in trials[:3]] == ["COMPLETE", "PRUNED", "FAIL"]
    assert (trials[0].value, trials[1].value) == (0.75, 0.5)
    assert trials[0].params["distillation.lr"] == dict(first.settings)["distillation.lr"]


def test_a_trial_that_failed_and_then_finished_counts_as_finished(tmp_path: Path) -> None:
    schedule = search()
    source = study(schedule, tmp_path)
    first = source.next()
    assert first
    source.tell(first, TrialResult("failed"))
    again = study(schedule, tmp_path)
    trial = again.next()
    assert trial == first
    again.tell(trial, result_of(trial))
    assert [it.value for it in study(schedule, tmp_path).record.proposed] == [result_of(trial).metric]


def test_what_a_killed_driver_leaves_of_the_journal_is_mended(tmp_path: Path) -> None:
    schedule = search()
    undisturbed = run(study(schedule, tmp_path / "undisturbed"))
    run(study(schedule, tmp_path), 4)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"op_code":4,"worker')
    (tmp_path / f"{JOURNAL}.lock").symlink_to(tmp_path / JOURNAL)
    assert run(study(schedule, tmp_path)) == undisturbed


def test_a_study_of_another_experiment_is_refused(tmp_path: Path) -> None:
    run(study(search(), tmp_path), 1)
    with pytest.raises(InputError, match="study.journal' has the study 'optuna-tpe-to-0.25-seed-0' of another experim"):
        study(search(), tmp_path, experiment="another")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("not a journal\n\n")
    with pytest.raises(InputError, match=f"{JOURNAL}' is not a journal of Optuna that can be read; remove it"):
        study(search(), tmp_path)


def test_a_small_space_ends_the_search(tmp_path: Path) -> None:
    space = {"path": {"choices": [[], [0.5], [0.9, 0.4]]}}
    source = study(search(space=space), tmp_path)
    names = []
    while (trial := source.next()) is not None:
        names.append(trial.name)
        source.tell(trial, TrialResult("finished", 0.5, flops=1.0))
    assert sorted(names) == [
        "optuna-tpe-to-0.25-seed-0", "optuna-tpe-via-0.5-to-0.25-seed-0", "optuna-tpe-via-0.9-via-0.4-to-0.25-seed-0",
    ]  # fmt: skip


def test_paths_and_lambdas_in_one_space(tmp_path: Path) -> None:
    space = {"path": {"assistants": 1}, "lam": {"low": 0, "high": 1}, "once_for_all.epochs": {"low": 1, "high": 2}}
    source = study(search(space=space, trials=10), tmp_path)
    found = []
    while (trial := source.next()) is not None:
        found.append(trial)
        source.tell(trial, TrialResult("finished", 0.5, flops=1.0))
    by_lam = [trial for trial in found if trial.schedule.lam is not None]
    assert by_lam
    assert len(by_lam) < len(found)
    assert all(trial.settings and not trial.path for trial in by_lam)
    assert not any(trial.settings for trial in found if trial not in by_lam), "they train no supernet"


def searching(folder: Path, *schedules: Any, **changes: Any) -> Experiment:
    named = [ScheduleConfig.model_validate(schedule) for schedule in schedules]
    return tiny_experiment(storage=str(folder), schedules=named, controls=False, **changes)


def test_trials_beyond_a_budget_are_left_for_later_with_all_tests(tmp_path: Path) -> None:
    experiment = searching(tmp_path, "kd", {"optuna": {"trials": 4, "at_once": 2, "space": SPACE}})
    subject = inspect(experiment)
    asked = asked_of(experiment, subject, [STUDENT], Storage(tmp_path))
    planner = Planner(Together([Grid(expand(experiment, [STUDENT])), *begun(asked)]))
    jobs = Jobs(experiment, subject, ONE_THREAD, tokens_known(experiment, subject), most=2)
    planner.begin(jobs)
    ended: set[str] = set()
    while new := planner.more():
        for job in new:
            ended.add(job.name)
            planner.ended(job, TrialResult("finished", 0.5))
    assert planner.over
    assert len([job for job in jobs.planned if job.is_trial]) == 2
    left = planner.unfinished(ended)
    assert [name for name in left if not name.startswith("test-of")] == [trial.name for trial in planner.trials[2:]]
    assert planner.trials[0].schedule.name == "kd"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([{}, {"trials": 3}], "schedules: 2 searches are named 'optuna-tpe'; give each another 'seed'"),
        ([{"stopping": "median"}], "'stopping' of optuna compares students while they are trained"),
    ],
)
def test_searches_that_cannot_work_are_refused(options: list[Any], message: str, tmp_path: Path) -> None:
    experiment = searching(tmp_path, *({"optuna": it} for it in options))
    with pytest.raises(InputError, match=message):
        asked_of(experiment, inspect(experiment), [STUDENT], Storage(tmp_path))


def test_a_sampler_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_missing_sampler("gp")
    monkeypatch.setattr(sampling, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="the sampler 'gp' of optuna needs the package 'optuna'.*pip install optuna"):
        refuse_missing_sampler("gp")


def test_each_teacher_has_a_search_of_its_own(tmp_path: Path) -> None:
    base = tiny_experiment()
    teacher = base.teacher.model_copy(update={"seeds": [0, 1]})
    experiment = searching(tmp_path, {"optuna": {"space": SPACE}}, teacher=teacher)
    asked = asked_of(experiment, inspect(experiment), [STUDENT], Storage(tmp_path))
    first = [source.next() for source in begun(asked)]
    assert [trial.teacher_seed for trial in first if trial] == [0, 1]
    assert len({trial.settings for trial in first if trial}) == 2, "each with random numbers of its own"


def test_the_name_of_a_trial_with_many_settings_fits_a_folder() -> None:
    settings = {f"distillation.losses.{name}": 0.123 for name in ("hidden_mse", "soft_cross_entropy", "logit_mse")}
    trial = kd_trial(STUDENT).with_settings(settings | {"distillation.temperature": 1.23})
    assert trial.name.startswith("kd-settings-")
    assert len(trial.name) < 60
    assert trial.name != trial.with_settings({"distillation.temperature": 1.24}).name
