"""Trials of two workers: what one finds, though one of them be killed; and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from desk import LASTING, Desk, make_desk
from outcome import refuse_other_outcome
from surviving import Watched

from raydisc.report.ledger import Ledger

pytestmark = pytest.mark.cluster

SETTINGS = [
    "--set", "schedules=[{minidisc: {lam: 0.2}}]", "--set", "controls=false",
    "--set", "teacher.architecture.hidden_dropout_prob=0",
    "--set", "teacher.architecture.attention_probs_dropout_prob=0",
]  # fmt: skip
TWO = ["--set", "resources.workers=2"]

WORKER = "ray::GangWorker"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    desk = make_desk(tmp_path_factory.mktemp("alone"))
    desk.run("run", "tiny.yaml", *SETTINGS)
    return compared(desk)


def compared(desk: Desk) -> list[dict[str, Any]]:
    return list(desk.json("compare", "tiny", "--json"))


def check(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted) > 0
    for mine, theirs in zip(found, wanted, strict=True):
        for exact in ("schedule", "path", "search_flops"):
            assert mine[exact] == theirs[exact]
        for metric in ("validation_metric", "test_metric"):
            assert mine[metric] == pytest.approx(theirs[metric], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["data", "shard"])
def test_two_workers_find_what_one_finds(desk: Desk, alone: list[dict[str, Any]], parallel: str) -> None:
    desk.run("run", "tiny.yaml", *SETTINGS, *TWO, "--set", f"resources.parallel={parallel}")
    check(compared(desk), alone)


@pytest.mark.slow
def test_the_teacher_s_own_workers_leave_before_a_trial_begins(desk: Desk, alone: list[dict[str, Any]]) -> None:
    """Trials of one worker; the teacher's stages are of two."""
    desk.run("run", "tiny.yaml", *SETTINGS, "--set", "resources.teacher_workers=2")
    check(compared(desk), alone)
    stages = Ledger(desk.folder / "runs" / "ledger").rows("stages")
    jobs = [(stage["kind"], stage["trial"].split("-")[0]) for stage in stages]
    assert {("finetune", "prepare"), ("importance", "prepare"), ("teacher_outputs", "teacher_outputs")} < set(jobs)
    assert ("once_for_all", "minidisc") in jobs
    assert jobs.count(("teacher_outputs", "minidisc")) == 1  # the assistant's


@pytest.mark.slow
def test_a_run_whose_workers_are_killed_or_told_to_go_finds_the_same_bit_for_bit(tmp_path: Path) -> None:
    undisturbed, desk = make_desk(tmp_path / "undisturbed", LASTING), make_desk(tmp_path / "desk", LASTING)
    words = ["run", "tiny.yaml", *TWO, "--set", "resources.parallel=shard"]
    undisturbed.run(*words)
    stages = Ledger(undisturbed.folder / "runs" / "ledger").rows("stages")
    run = Watched(desk.folder / "runs", stages, desk.start(*words))
    step = run.reaches("finetune", 20)
    run.processes(WORKER)[-1].kill()
    run.goes_on("finetune", step)
    run.reaches("once_for_all", 10)
    told = run.processes(WORKER)[-1]
    told.terminate()
    run.wait(lambda: not told.is_running())
    run.goes_on("once_for_all", run.step("once_for_all"))
    run.ends()
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")


def test_more_workers_than_devices_are_refused(desk: Desk) -> None:
    said = desk.ask("run", "tiny.yaml", "--set", "resources.workers=500", code=2)
    assert "resources.workers: 500 workers with 1 threads each" in said
    said = desk.ask("run", "tiny.yaml", "--set", "resources.workers=3", "--set", "resources.parallel=hybrid", code=2)
    assert "'hybrid' needs 'shard'" in said
    assert "a divisor of the 3 workers" in said
    assert not Path(desk.folder / "runs" / "artifacts").exists()


LOSING_A_MACHINE = """
import json, sys, threading
from pathlib import Path
import ray, torch
from ray.cluster_utils import Cluster
from raydisc.config.experiment import load_experiment
from raydisc.models.precision import Arithmetic
from raydisc.parallel.mesh import Layout
from raydisc.runtime.gang import Gang, Team
from raydisc.runtime.hot_store import HotCopies
from raydisc.schedules.search import Search
from raydisc.stages.executor import Executor
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.training.execution import Execution
from raydisc.stages.problem import inspect

settings = ["teacher.architecture.hidden_dropout_prob=0", "teacher.architecture.attention_probs_dropout_prob=0",
            "teacher.finetune.epochs=8", f"resources.min_workers={sys.argv[1]}", "resources.workers=2",
            "resources.checkpoint_every_s=0"]
experiment = load_experiment("tiny.yaml", settings)
search = Search(experiment, inspect(experiment), 0.25, 0)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

def prepared(storage, workers):
    store = ArtifactStore(storage)
    executor = Executor(store, workers or Worker(store, torch.device("cpu")), Arithmetic(1), told, lambda *_: None)
    return executor.run(search.prepare()).finetuned["evaluations"][-1]["metric"], len(seen)

seen, lost = [], []
def told(found):
    seen.append(found.step)
    if getattr(found.event, "steps", 0) and found.step > 3 and storage.name == "together" and not lost:
        lost.append(cluster.remove_node(other))

storage = Path("alone")
alone, _ = prepared(storage, None)
storage = Path("together").absolute()
execution = Execution.of(experiment.resources, experiment.teacher_outputs, "float32")
team = Team(Layout(1, 2), experiment.resources, execution, str(storage), start_timeout_s=20.0)
try:
    found, _ = prepared(storage, Gang(team, HotCopies.remote(str(storage), 2**28)))
    print(json.dumps({"alone": alone, "found": found, "lost": len(lost)}))
except Exception as error:
    print(json.dumps({"error": str(error), "lost": len(lost)}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("least", [1, 2])
def test_a_gang_that_cannot_have_all_workers_again_goes_on_with_as_few_as_it_may(desk: Desk, least: int) -> None:
    """The second worker's machine is lost for good while the teacher is trained."""
    done = subprocess.run(
        [sys.executable, "-c", LOSING_A_MACHINE, str(least)],
        cwd=desk.folder, env=os.environ | {"HOME": str(desk.folder)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["lost"] == 1
    if least == 1:
        assert said["found"] == pytest.approx(said["alone"], abs=0.02)
    else:
        assert "1 of 2 workers could be started within 20 seconds; set resources.min_workers" in said["error"]
