"""The benchmarks that need Ray or a finished run, once from end to end in their smallest settings."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raydisc.config.experiment import load_experiment

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
sys.path.append(str(BENCHMARKS))

import search_cost  # noqa: E402
from alone import peak_of_trial  # noqa: E402

pytestmark = [pytest.mark.cluster, pytest.mark.integration]


def run(desk, name, *words):
    """Run a benchmark as a user does; gives its rows and what it printed."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *words, "--device", "cpu", "--output", "found"]
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return pq.read_table(desk.folder / "found" / f"{name}.parquet").to_pylist(), done.stdout


@pytest.mark.slow
def test_trials_read_one_store(desk):
    rows, printed = run(desk, "store", "tiny.yaml", "--trials", "2")
    assert "shared by all trials" in printed
    assert [(row["trials"], row["trial"]) for row in rows] == [(2, 0), (2, 1)]
    assert rows[0]["pages_sum"] == rows[1]["pages_sum"] > 0  # both have read the same bytes
    for row in rows:
        assert row["shared_bytes"] > 0
        assert row["private_share"] == pytest.approx(row["private_bytes"] / row["shared_bytes"])
        assert row["imports_bytes"] > 2**24
        assert 0 < row["start_seconds"] <= row["first_step_seconds"]


@pytest.mark.slow
def test_trials_fill_a_worker(desk):
    words = ["--workers", "1", "--trials", "2", "--steps", "3", "--repetitions", "1"]
    rows, printed = run(desk, "scaling", "tiny.yaml", *words)
    assert "calculated for the jobs of scaling" in printed
    measured = [row for row in rows if row["way"] != "calculated"]
    assert [(row["way"], row["workers"], row["efficiency"]) for row in measured] == [("bare", 1, 1.0), ("ray", 1, 1.0)]
    assert all(row["throughput"] > 0 for row in rows)
    calculated = [row for row in rows if row["way"] == "calculated"]
    assert all(
        later["seconds"] <= earlier["seconds"] for earlier, later in zip(calculated, calculated[1:], strict=False)
    )
    assert calculated[0]["limit"] == "workers: all are busy"


@pytest.mark.slow
def test_queued_trials_beside_an_empty_experiment(desk):
    words = ["--trials", "2", "--repetitions", "1", "--reporting", "2", "--report-seconds", "1", "--waiting", "10"]
    rows, printed = run(desk, "driver", *words)
    assert "2 queued trials, one at a time" in printed
    assert [(row["way"], row["stages"]) for row in rows[:3]] == [("tune", 0), ("raydisc", 1), ("raydisc", 5)]
    assert [(row["way"], row["trials"]) for row in rows[3:]] == [("reports", 2), ("ray.wait", 10)]
    for row in rows:
        assert 0 < row["cpu_seconds"] <= row["seconds"] * 1.5
    for row in rows[1:3]:
        assert 0 < row["stage_seconds"] < row["seconds"]
    one, another = (row["owner_bytes"] for row in rows[1:3])
    assert 0 < another < 1.5 * one  # a run's artifact store goes with the run, though the session stays


@pytest.mark.slow
def test_every_slot_of_a_cluster_works(desk):
    words = ["--slots", "4", "--jobs", "16", "--seconds", "2", "--repetitions", "1", "--plans", "20"]
    rows, printed = run(desk, "filling", *words)
    assert "16 jobs of 2 s on 4 slots" in printed
    alone, ours, plan = rows
    assert (alone["way"], ours["way"], plan["way"]) == ("one by one", "as in a run", "plan")
    assert ours["most"] >= 3  # a process that starts while a job ends may be given up for the one that is free
    assert ours["whole_seconds"] > ours["first_seconds"] > 0


@pytest.mark.slow
def test_an_artifact_goes_from_node_to_node(desk):
    rows, printed = run(desk, "transfers", "--megabytes", "4", "--readers", "2", "--repetitions", "1")
    assert "2 readers on each node" in printed
    assert [(row["what"], row["node"]) for row in rows] == [
        ("write to the storage", 0), ("put", 0), ("read", 0), ("read", 0), ("read", 1), ("read", 1),
    ]  # fmt: skip
    copies = [row["copies"] for row in rows]
    assert copies[1] == pytest.approx(1.0, abs=0.01)
    assert copies[5] >= copies[2] + 0.9  # the other node has its own


def test_search_cost_of_a_finished_run(finished, tmp_path, capsys):
    storage = finished.folder / "runs"
    search_cost.main(["--runs", "tiny", "--storage", str(storage), "--memory-steps", "0", "--output", str(tmp_path)])
    assert "oracle path" in capsys.readouterr().out
    rows = {row["schedule"]: row for row in pq.read_table(tmp_path / "search_cost.parquet").to_pylist()}
    assert rows.keys() == {"kd", "kd_equal_compute", "kd_from_supernet", "minidisc", "maxidisc", "oracle path"}
    oracle = rows["oracle path"]
    for cost in search_cost.COSTS:
        assert oracle[f"{cost}_relative"] == 1.0
        assert rows["maxidisc"][cost] > oracle[cost] > 0
    assert 0 < rows["kd"]["flops_relative"] < rows["minidisc"]["flops_relative"] < rows["maxidisc"]["flops_relative"]
    assert oracle["path"] == oracle["oracle_path"]
    assert oracle["regret"] == 0.0
    for row in rows.values():
        assert 0 <= row["test"] <= 1
        assert row["test_se"] > 0


def test_peak_memory_of_a_trial_alone(finished):
    storage = finished.folder / "runs"
    experiment = load_experiment(storage / "tiny" / "experiment.yaml")
    before = sorted(path.name for path in (storage / "artifacts").iterdir())
    peak = peak_of_trial(experiment, storage, "kd", 0.25, (), steps=1)
    assert 0 < peak < 2**31
    assert sorted(path.name for path in (storage / "artifacts").iterdir()) == before  # it leaves nothing behind
