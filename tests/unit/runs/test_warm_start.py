"""Searches that begin with the trials of an earlier run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import ONE_THREAD, tiny_experiment
from tiny_runs import STUDENT_SCALE as STUDENT

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError
from raydisc.report.ledger import Ledger
from raydisc.runs.recorder import Recorder
from raydisc.runs.sources import Asked, asked_of
from raydisc.runs.study import SEARCH, Study
from raydisc.runs.warm_start import observations
from raydisc.schedules.base import Trial
from raydisc.schedules.kd import Kd, KdOptions
from raydisc.schedules.maxidisc import Maxidisc, MaxidiscOptions
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.schedules.optuna import Optuna
from raydisc.schedules.trials import steps_of
from raydisc.stages.executor import Executor
from raydisc.stages.problem import inspect
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.storage.folder import Storage

pytestmark = pytest.mark.integration

KD = Trial(Kd(KdOptions()), STUDENT, 0)
PATH = Trial(Maxidisc(MaxidiscOptions()), STUDENT, 1, (0.5,)).with_settings({"distillation.lr": 0.002})
MINIDISC = Trial(Minidisc(MinidiscOptions(lam=0.3)), STUDENT, 0)
LR = {"distillation.lr": {"low": 1e-3, "high": 1e-2}}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with the run "earlier": KD, a path with a learning rate of its own, and MiniDisc."""
    folder = tmp_path_factory.mktemp("storage")
    experiment = tiny_experiment(name="earlier", storage=str(folder))
    subject, store = inspect(experiment), ArtifactStore(folder)
    for trial in (KD, PATH, MINIDISC):
        recorder = Recorder(Ledger(folder / "ledger"), store, "earlier", trial.name, ONE_THREAD, subject.metric)
        worker = Worker(store, torch.device("cpu"))
        executor = Executor(store, worker, ONE_THREAD, lambda state: None, recorder.stage)
        recorder.trial(trial, subject, executor.run(steps_of(trial, experiment, subject)))
    (folder / "earlier").mkdir()
    (folder / "earlier" / "experiment.yaml").write_text(experiment.to_yaml())
    return folder


def asked(storage: Path, space: dict[str, Any], run: str = "earlier", **changes: Any) -> Asked:
    options = {"space": space, "warm_start": run, "sampler": changes.pop("sampler", "tpe")}
    schedule = ScheduleConfig.model_validate({"optuna": options})
    experiment: Experiment = tiny_experiment(storage=str(storage), schedules=[schedule], **{"name": "later", **changes})
    [found] = asked_of(experiment, inspect(experiment), [STUDENT], Storage(storage))
    return found


def observed(storage: Path, space: dict[str, Any], **changes: Any) -> list[str]:
    it = asked(storage, space, **changes)
    assert isinstance(it.schedule, Optuna)
    return [one.name for one in observations(it, it.schedule, "earlier")]


def test_trials_that_the_space_has_are_known(storage: Path) -> None:
    both = {"path": {"assistants": 1}, **LR}
    assert observed(storage, both) == [KD.name, PATH.name]
    assert observed(storage, {"path": {"choices": [[0.5], [0.9]]}, **LR}) == [PATH.name]
    assert observed(storage, LR) == [KD.name]
    assert observed(storage, {"lam": {"low": 0, "high": 1}}) == [MINIDISC.name]
    assert observed(storage, {**both, "lam": {"low": 0, "high": 1}}) == [KD.name, PATH.name, MINIDISC.name]


def test_trials_with_settings_that_the_space_lacks_are_not(storage: Path) -> None:
    assert observed(storage, {"path": {"assistants": 1}}) == [KD.name], "the path has another learning rate"
    assert observed(storage, {"distillation.lr": {"low": 1e-5, "high": 1e-4}}) == []
    longer = tiny_experiment().distillation.model_copy(update={"epochs": 2.0})
    assert observed(storage, LR, distillation=longer) == []
    assert observed(storage, {**LR, "distillation.epochs": {"low": 1, "high": 3}}, distillation=longer) == [KD.name]


def test_they_are_read_once_and_proposals_follow_from_them(storage: Path) -> None:
    it = asked(storage, {"path": {"assistants": 1}, **LR}, sampler="nsga2")
    study = SEARCH.begin(it)
    assert isinstance(study, Study)
    assert [trial.user_attrs["run"] for trial in study.record.observed] == ["earlier"] * 2
    metric, flops = study.record.observed[0].values
    assert 0 <= metric <= 1
    assert flops > 0
    first = study.next()
    again = SEARCH.begin(it)
    assert isinstance(again, Study)
    assert len(again.record.observed) == 2
    assert again.next() == first


@pytest.mark.parametrize(
    ("run", "changes", "message"),
    [
        ("missing", {}, "names the run 'missing', which is not in the storage"),
        ("new", {}, "names this run itself, 'new'"),
        (
            "earlier",
            {"task": {"reviews": {"train": 300}, "max_length": 64}},
            "whose 'task' is another",
        ),
    ],
)
def test_an_earlier_run_that_cannot_be_used_is_refused(
    run: str, changes: dict[str, Any], message: str, storage: Path
) -> None:
    changes = {name: type(getattr(tiny_experiment(), name)).model_validate(it) for name, it in changes.items()}
    with pytest.raises(InputError, match=message):
        asked(storage, LR, run=run, name="new", **changes)
