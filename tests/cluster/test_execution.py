"""The execution settings of an experiment file reach the stages of a job with one worker."""

import json
import os
import subprocess
import sys

import pytest
from desk import Desk

pytestmark = pytest.mark.cluster

PEAK = """
import json
import ray
from raydisc.config.experiment import load_experiment
from raydisc.forecast.memory import Allocations
from raydisc.models.precision import Arithmetic
from raydisc.runs.jobs import PREPARE, Jobs
from raydisc.runtime.hot_store import HotCopies
from raydisc.runtime.metric_reports import MetricReports
from raydisc.runtime.trainable import Run, _equipped
from raydisc.schedules.search import Search
from raydisc.schedules.trials import expand
from raydisc.stages.problem import inspect

def trained(checkpointing):
    experiment = load_experiment("tiny.yaml", [f"resources.checkpointing={checkpointing}", "task.max_length=32"])
    subject, storage = inspect(experiment), f"storage-{checkpointing}"
    trials, arithmetic = expand(experiment, [0.25]), Arithmetic(1)
    jobs = {job.name: job for job in Jobs(experiment, subject, arithmetic, lambda key: None).add(trials)}
    run = Run(experiment, subject, storage, arithmetic)
    copies = HotCopies.remote(storage, 2**28)
    metrics = MetricReports(lambda report: None, lambda evaluation: False)
    executor, _ = _equipped(jobs[PREPARE], run, copies, lambda state: None, metrics)
    schedule = Search(experiment, subject, 0.25, 0).prepare()
    teacher = schedule.send(executor.execute(next(schedule)))
    with Allocations() as counted:
        key = executor.execute(teacher).key
    return teacher.kind, key, counted.peak

ray.init(num_cpus=1, log_to_driver=False)
print(json.dumps([trained("false"), trained("true")]))
"""


def test_a_job_of_one_worker_keeps_fewer_activations_where_the_experiment_file_asks_for_it(desk: Desk) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=desk.folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HOME": str(desk.folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (kind, key, kept), (_, same_key, again) = json.loads(done.stdout.splitlines()[-1])
    assert kind == "finetune"
    assert key == same_key
    assert again < 0.9 * kept
