"""What a machine refuses before Ray is started, and what a trial's process is held to."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_runs import tiny_experiment

from raydisc.config.experiment import ResourcesConfig
from raydisc.errors import InputError
from raydisc.models.precision import Arithmetic
from raydisc.runs import machine
from raydisc.runtime.cluster import arithmetic_of
from raydisc.runtime.driver import check_experiment, run_experiment


def asking(tmp_path, **resources):
    return tiny_experiment(storage=str(tmp_path), resources=ResourcesConfig(**resources))


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize("refuse", [check_experiment, run_experiment])
def test_more_threads_than_cores_are_refused(tmp_path, refuse):
    cores = machine.cores()
    said = f"resources.cpus: a trial asks for {cores + 1}, but this machine has {cores} to use"
    with pytest.raises(InputError, match=said):
        refuse(asking(tmp_path, cpus=cores + 1))
    assert list(tmp_path.iterdir()) == []


def test_all_cores_may_be_asked_for(tmp_path):
    check_experiment(asking(tmp_path, cpus=machine.cores()))


def test_a_clusters_machines_are_not_judged_by_this_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    check_experiment(asking(tmp_path, cpus=machine.cores() + 1))


def test_bfloat16_without_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: False)
    with pytest.raises(InputError, match=r"resources\.precision: the processor of .* has no bfloat16 .* float32"):
        check_experiment(asking(tmp_path, precision="bfloat16"))
    for precision in ("auto", "float32"):
        check_experiment(asking(tmp_path, precision=precision))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_has_no_bfloat16():
    machine.refuse_without("float32", torch.device("cuda"))
    with pytest.raises(InputError, match=r"resources\.precision: the GPU of"):
        machine.refuse_without("bfloat16", torch.device("cuda"))


@pytest.mark.parametrize(
    ("precision", "settled"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")]
)
def test_a_processor_computes_in_float32_unless_asked(precision, settled):
    assert arithmetic_of(ResourcesConfig(cpus=3, precision=precision)) == Arithmetic(3, settled)


BOUND = """
import json, os, sys
import pyarrow, torch
from raydisc.runs.machine import bound_threads, cores

said = []
for threads in (3, 2):  # two trials, one after the other
    bound_threads(threads)
    torch.ones(300, 300) @ torch.ones(300, 300)
    said.append([torch.get_num_threads(), pyarrow.cpu_count(), int(os.environ["RAYON_NUM_THREADS"])])
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps({"threads": said, "interop": torch.get_num_interop_threads(), "cores": cores()}))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_a_process_is_held_to_its_threads():
    done = subprocess.run([sys.executable, "-c", BOUND], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"threads": [[3] * 3, [2] * 3], "interop": 1, "cores": 1}
