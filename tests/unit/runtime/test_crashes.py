"""Crashes of a trial count only while it gets no further."""

from ray.tune.experiment import Trial

from raydisc.runtime.callbacks.retries import CRASHES_FORGIVEN, Forgiveness


def test_getting_further_forgets_crashes_and_repeating_does_not() -> None:
    forgiveness, trial = Forgiveness(), Trial("run_job", stub=True)

    def crashes_left_after(key: str, step: int) -> int:
        trial.run_metadata.num_failures = CRASHES_FORGIVEN
        forgiveness.on_trial_result(0, [trial], trial, {"key": key, "step": step})
        left: int = trial.run_metadata.num_failures
        return left

    assert crashes_left_after("finetune", 5) == 0
    assert crashes_left_after("finetune", 5) == CRASHES_FORGIVEN, "it is where it was"
    assert crashes_left_after("finetune", 3) == CRASHES_FORGIVEN, "it goes on from its checkpoint"
    assert crashes_left_after("finetune", 6) == 0
    assert crashes_left_after("importance", 0) == 0
    assert crashes_left_after("finetune", 9) == CRASHES_FORGIVEN, "a stage before the last one"
