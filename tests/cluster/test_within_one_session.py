"""What needs a session of Ray but no run of its own: this process is the driver of one session for all tests.

A new Ray that has moved what raydisc reaches for behind its public interface fails here, function by function.
"""

import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raydisc.errors import Stopped
from raydisc.runtime import ray_internals
from raydisc.runtime.session import ray_session

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    before = dict(os.environ)
    with ray_session():
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find this file
        yield
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    os.environ.clear()
    os.environ.update(before)  # without the session's token, which processes of other tests would inherit


def test_the_raylet_listens_on_the_socket() -> None:
    socket_name = ray_internals.raylet_socket()
    assert socket_name is not None
    assert stat.S_ISSOCK(Path(socket_name).stat().st_mode)


def test_the_loopback_setting_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER)
    for value, expected in (("1", True), ("0", False)):
        monkeypatch.setenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, value)
        ray_internals.reread_loopback_setting()
        assert ray_constants.ENABLE_RAY_CLUSTER is expected


def test_a_job_names_no_folder_of_its_driver() -> None:
    from ray._private.worker import global_worker

    assert list(global_worker.core_worker.get_job_config().py_driver_sys_path) == []


def test_cloud_keys_are_not_copied_to_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OTHER"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a key")
    monkeypatch.setenv("OTHER", "harmless")
    assert "not a key" in str(class_cache._ActorClassCache().get(object).__dict__), "Tune no longer copies cloud keys"
    ray_internals.keep_cloud_keys_off_command_lines()
    copied = str(class_cache._ActorClassCache().get(object).__dict__)
    assert "not a key" not in copied
    assert "harmless" in copied


class Marked:
    """A mixin whose set-up leaves a file behind."""

    def setup(self, config: dict[str, Any]) -> None:
        Path(config["mark"]).touch()
        super().setup(config)  # type: ignore[misc]


def crashes_at_first(config: dict[str, Any]) -> None:
    from ray import tune

    tries = Path(config["tries"])
    tries.write_text(tries.read_text() + "x")
    tune.report({"step": len(tries.read_text())})
    if len(tries.read_text()) < 4:
        raise RuntimeError("a crash")


def test_tune_mixes_in_names_the_actor_and_forgets_failures(tmp_path: Path) -> None:
    import ray
    from ray import tune

    class Forgiving(tune.Callback):
        actors: list[Any] = []

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **_: Any) -> None:
            self.actors.append(ray_internals.actor_of(trial))
            ray_internals.forget_failures(trial)

        def __getstate__(self) -> dict[str, Any]:
            return {}

    forgiving = Forgiving()
    ray_internals.mix_into_trainable(crashes_at_first, Marked)
    (tmp_path / "tries").write_text("")
    results = tune.Tuner(
        crashes_at_first,
        param_space={"tries": str(tmp_path / "tries"), "mark": str(tmp_path / "mark")},
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            callbacks=[forgiving],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    ).fit()
    assert results.num_errors == 0, "three crashes, of which only one in a row counts"
    assert (tmp_path / "tries").read_text() == "xxxx"
    assert (tmp_path / "mark").exists()
    assert forgiving.actors
    assert all(isinstance(actor, ray.actor.ActorHandle) for actor in forgiving.actors)


def test_silence_is_counted_from_what_was_told_last_and_is_the_reason_that_is_given() -> None:
    import ray
    from ray.tune.experiment import Trial

    from raydisc.runtime.callbacks.stalls import StallWatch

    @ray.remote
    class Process:
        def number(self) -> int:
            return os.getpid()

    actor, trial, watch = Process.remote(), Trial("run_job", stub=True), StallWatch(minutes=0.02)
    ray.get(actor.number.remote())
    trial.temporary_state.ray_actor = actor
    trial.set_status(Trial.RUNNING)
    watch.on_trial_start(0, [trial], trial)
    told, begun = [], time.monotonic()
    while time.monotonic() < begun + 5:
        if time.monotonic() < begun + 2:
            watch.on_trial_result(0, [trial], trial, {})
        watch.on_step_begin(0, [trial])
        told.append((time.monotonic() - begun, watch.hung(trial.trial_id)))
        time.sleep(0.1)
    assert {reason for second, reason in told if second < 3} == {None}
    assert told[-1][1] == "it reported nothing for 0.02 minutes (resources.stall_minutes)"
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.number.remote())


def test_workers_that_were_told_to_go_are_waited_for_as_one_writes_for_all() -> None:
    import ray

    from raydisc.runtime.gang import all_or_raise

    @ray.remote
    class Worker:
        def stops_after(self, seconds: float) -> None:
            time.sleep(seconds)
            raise Stopped("told to go")

    workers = [Worker.remote() for _ in range(2)]
    with pytest.raises(Stopped, match="told to go"):
        all_or_raise([it.stops_after.remote(2 * rank) for rank, it in enumerate(workers)], workers, lambda: None)
    assert ray.get(workers[1].__ray_ready__.remote(), timeout=1), "the other one is done"
