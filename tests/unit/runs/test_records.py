"""What a run writes into the ledger of its trials."""

from dataclasses import replace

from tiny_runs import tiny_experiment
from tiny_schedules import kd_trial

from raydisc.models.precision import Arithmetic
from raydisc.report.ledger import Ledger
from raydisc.runs.recorder import Recorder
from raydisc.schedules.base import Trial
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.schedules.optuna import Optuna, OptunaOptions
from raydisc.schedules.steps import Outcome
from raydisc.stages.artifact import Artifact
from raydisc.stages.facts import ModelFacts, Score
from raydisc.stages.problem import inspect
from raydisc.stages.store import ArtifactStore

TRIAL = kd_trial(0.25)
FACTS = ModelFacts(parameters=7, evaluations=[Score(None, "validation", 0.5, 0.1)]).to_json()
STUDENT, OTHER = (Artifact(key, "distil", facts=FACTS) for key in "so")
TEST = Artifact("t", "evaluate")


def test_a_trial_that_is_gone_on_with_stays_tested(tmp_path):
    """The test's process had been killed when all was computed, and another one found it so; then comes a resume."""
    ledger, subject = Ledger(tmp_path / "ledger"), inspect(tiny_experiment())

    def tell(student, reused, test=None):
        recorder = Recorder(ledger, ArtifactStore(tmp_path), "run", "job", Arithmetic(1), "accuracy")
        recorder.asked, recorder.reused = ["s", *(["t"] if test else [])], reused
        recorder.trial(TRIAL, subject, Outcome(student), test=test)
        [row] = ledger.rows("trials")
        return row["student"], row["test"]

    assert tell(STUDENT, []) == ("s", None)
    for _ in range(2):
        assert tell(STUDENT, ["s", "t"], TEST) == ("s", "t")
        assert tell(STUDENT, ["s"]) == ("s", "t")
    assert tell(OTHER, []) == ("o", None), "what was tested is another student"


def test_a_trial_is_recorded_with_the_options_of_its_schedule(tmp_path):
    ledger, subject = Ledger(tmp_path / "ledger"), inspect(tiny_experiment())
    recorder = Recorder(ledger, ArtifactStore(tmp_path), "run", "job", Arithmetic(1), "accuracy")
    search = Optuna(OptunaOptions(sampler="nsga2", seed=3))
    for schedule in (replace(search, chosen_lam=0.1), replace(search, chosen_lam=0.3), Minidisc(MinidiscOptions())):
        recorder.failed_trial(Trial(schedule, 0.25, 0), subject, "the loss is not finite")
    assert [(row["schedule"], row["label"]) for row in ledger.rows("trials")] == [
        ("optuna", "optuna-nsga2-search-3"), ("optuna", "optuna-nsga2-search-3"), ("minidisc", "minidisc"),
    ]  # fmt: skip


def test_the_tries_of_a_stopped_stage_have_its_flops_together(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    recorder = Recorder(ledger, ArtifactStore(tmp_path), "run", "job", Arithmetic(1), "accuracy")
    for step, flops in {1: 100.0, 2: 250.0}.items():
        recorder.stopped_stage("s", "distil", f"stopped at step {step}", 8.0, 4.0, flops)
    recorder.stopped_stage("s", "distil", "its checkpoint is lost", 8.0, 4.0, 0.0)
    rows = ledger.rows("stages", latest=False)
    assert [(row["state"], row["flops"], row["device_seconds"]) for row in rows] == [
        ("stopped", 100.0, 8.0), ("stopped", 150.0, 8.0), ("stopped", 0.0, 8.0),
    ]  # fmt: skip
