"""A trial that a scheduler of Tune ends hears of it while files are read, and again after a crash."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raydisc.runs.jobs import Job
from raydisc.runtime.hot_store import HotCopies
from raydisc.runtime.metric_reports import MetricReports
from raydisc.runtime.reports import MetricReport, to_result
from raydisc.runtime.session import ray_session
from raydisc.runtime.trial_scheduler import JobScheduler
from raydisc.schedules.base import Trial
from raydisc.schedules.kd import Kd, KdOptions
from raydisc.stages.artifact import Artifact
from raydisc.stages.executor import StageEvent
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.training.progress import Evaluated, Evaluation

pytestmark = pytest.mark.cluster

JOB = Job("kd", "kd", trial=Trial(Kd(KdOptions()), 0.25, 0))


class EndingAt(FIFOScheduler):
    """Ends trials at an evaluation of a number."""

    def __init__(self, number: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number, self.heard = number, list[int]()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.heard.append(result["training_iteration"])
        ends = result["training_iteration"] == self.number
        return str(TrialScheduler.STOP if ends else TrialScheduler.CONTINUE)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The storage of a session."""
    before = dict(os.environ)
    with ray_session():
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find this file
        yield tmp_path_factory.mktemp("runs")
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    os.environ.clear()
    os.environ.update(before)  # without the session's token, which processes of other tests would inherit


def reporting(copies: Any, scheduler: EndingAt) -> Callable[[MetricReport], None]:
    """Return what passes reports of the job to a scheduler, as Tune does."""
    deciding = JobScheduler(scheduler, copies)
    trial = TuneTrial("run_job", stub=True)
    trial.config["job"] = JOB

    def report(found: MetricReport) -> None:
        assert deciding.on_trial_result(None, trial, to_result(found)) == "CONTINUE"

    return report


def slow(gate: Path) -> Any:
    """An artifact whose files are known once somebody has written into the gate, a named pipe."""

    class Slow:
        @property
        def blobs(self) -> dict[str, str]:
            return {"file": gate.read_text()}

    return Slow()


def test_a_trial_is_ended_while_a_file_is_read(storage: Path, tmp_path: Path) -> None:
    copies: Any = HotCopies.remote(str(storage), 2**20)  # type: ignore[attr-defined]
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    reading = copies.reference.remote(slow(gate), "file")
    giving_up = threading.Timer(120, gate.write_text, ["no answer"])
    giving_up.start()
    reporting(copies, EndingAt(1))(MetricReport("distil", "d", 1, 0.5))
    copies.stop.remote()
    assert ray.get([copies.is_ended.remote("kd", 1), copies.stopping.remote()]) == [True, True]
    assert giving_up.is_alive()
    assert ray.wait([reading], timeout=0)[0] == [], "the file has been read already"
    giving_up.cancel()
    gate.write_text("read")
    ray.kill(copies)


def test_a_trial_that_crashed_as_it_was_ended_is_ended_at_the_same_evaluation(storage: Path) -> None:
    copies: Any = HotCopies.remote(str(storage), 2**20)  # type: ignore[attr-defined]
    scheduler = EndingAt(3)
    report = reporting(copies, scheduler)

    def try_it() -> MetricReports:
        tried = MetricReports(report, lambda number: ray.get(copies.is_ended.remote("kd", number)))
        rows = [{"split": "validation", "step": step, "metric": 0.1 * step, "se": 0.0} for step in (1, 2)]
        tried.finished(OnceForAll, Artifact("s", "once_for_all", facts={"evaluations": rows}))  # type: ignore[arg-type]
        assert not tried.ended, "by evaluations before it was ended"
        tried.progress(StageEvent("distil", "d", Evaluated(Evaluation(7, 0.7, 0.1), 1, 20)))
        return tried

    for _ in range(2):
        tried = try_it()
        assert tried.ended
        tried.progress(StageEvent("distil", "d", Evaluated(Evaluation(8, 0.8, 0.1), 2, 20)))
        assert tried.last == 0.7
    assert scheduler.heard == [1, 2, 3]
    ray.kill(copies)
