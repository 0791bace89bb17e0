"""What trials are given: threads, and a precision that their device has."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from desk import Desk

pytestmark = pytest.mark.cluster


def said(desk: Desk, code: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=desk.folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TRIALS = """
import json, pathlib
import torch
import raydisc
from raydisc.models.precision import has_bfloat16
from raydisc.report.ledger import Ledger
from raydisc.runtime.session import ray_session

here, precision = pathlib.Path.cwd(), "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
with ray_session():
    from raydisc.runtime import tuning

    run_job = tuning.run_job

    def told(config, run, copies):
        import pyarrow, torch
        run_job(config, run=run, copies=copies)
        threads = [torch.get_num_threads(), torch.get_num_interop_threads(), pyarrow.cpu_count()]
        (here / f"{config['job']}.threads").write_text(json.dumps(threads))

    tuning.run_job = told
    settings = ["schedules=[kd]", "resources.cpus=1", f"resources.precision={precision}"]
    failures = raydisc.run(raydisc.load_experiment("tiny.yaml", settings)).failures
stages = Ledger(here / "runs" / "ledger").rows("stages")
print(json.dumps({
    "failures": failures, "precision": precision,
    "threads": [json.loads(path.read_text()) for path in here.glob("*.threads")],
    "arithmetic": [json.loads(stage["settings"])["arithmetic"] for stage in stages],
}))
"""


def test_trials_have_the_threads_and_the_precision_of_the_settings(desk: Desk) -> None:
    """One thread, though the user's environment gives every library three."""
    found = said(desk, TRIALS, OMP_NUM_THREADS="3")
    assert found["failures"] == []
    assert len(found["threads"]) > 2
    assert all(threads == [1, 1, 1] for threads in found["threads"])
    assert len(found["arithmetic"]) > 4
    alone = {"threads": 1, "precision": found["precision"], "layout": None, "teacher_layout": None}
    assert all(it == alone for it in found["arithmetic"])


REFUSALS = """
import json, pathlib
import ray
import raydisc
from raydisc.errors import InputError

ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
said = []
for number, asked in enumerate(("gpus=1", "cpus=3", "gpus=2")):
    try:
        raydisc.run(raydisc.load_experiment("tiny.yaml", [f"name=run{number}", f"resources.{asked}"]))
    except InputError as error:
        said.append(str(error))
print(json.dumps({"said": said, "artifacts": len(list(pathlib.Path("runs/artifacts").glob("*")))}))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_what_no_machine_of_the_cluster_has_is_refused(desk: Desk) -> None:
    found = said(desk, REFUSALS)
    gpu, cpus, gpus = found["said"]
    assert gpu.startswith("resources.gpus: Ray has a GPU to give, but torch sees none there;")
    assert cpus.startswith("resources.cpus: a trial asks for 3, but")
    assert gpus.startswith("resources.gpus: a trial asks for 2, but")
    assert found["artifacts"] == 0
