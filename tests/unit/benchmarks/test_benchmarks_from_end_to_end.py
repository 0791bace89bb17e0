"""Each benchmark that needs no Ray once from end to end."""

import json

import checkpoints
import common
import filling
import forecast
import peer_loops
import peers
import pieces
import pyarrow.parquet as pq
import pytest
import reporting
import roofline
import scaling
from breakdown import GROUPS

from raydisc.config.experiment import load_experiment
from raydisc.errors import InputError


def test_checkpoints_from_end_to_end(tmp_path, capsys):
    checkpoints.main(["--millions", "1", "3", "--repetitions", "2", "--output", str(tmp_path)])
    assert "bare write s" in capsys.readouterr().out
    rows = pq.read_table(tmp_path / "checkpoints.parquet").to_pylist()
    assert [row["millions"] for row in rows] == [1, 1, 3, 3]
    assert all(row["bytes"] >= 16e6 * row["millions"] for row in rows), "weights, the best ones, two moments"
    assert all(row["checkpoint_seconds"] > 0 for row in rows)


@pytest.mark.integration
def test_roofline_from_end_to_end(experiment, tmp_path, capsys):
    words = ["--scales", "0.25", "--block", "1", "--blocks", "2", "--profiled", "1", "--rows", "96"]
    roofline.main([str(experiment), *words, "--length", "16", "--device", "cpu", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = pq.read_table(tmp_path / "roofline.parquet").to_pylist()
    assert [(row["piece"], row["scale"]) for row in rows] == [(name, 0.25) for name in pieces.PIECES]
    for row in rows:
        assert row["piece"] in printed
        assert 0 < row["fraction_low"] <= row["fraction_of_peak"] <= row["fraction_high"] < 1
        assert row["flops_per_second"] == pytest.approx(row["flops"] / row["seconds"])
        assert min(row["bytes"], row["bandwidth"], row["peak"], row["roofline_seconds"]) > 0
        assert sum(row[f"share_{group}"] for group in GROUPS) == pytest.approx(1.0)
        assert row["share_matrix multiplies"] > 0
        assert row["padding_training"] == row["padding_evaluation"] == 0  # every row has 16 tokens
        assert row["tokens"] == (64 if row["piece"] == "teacher_outputs" else 16) * 16
        if row["piece"] != "teacher_outputs":
            assert min(row["share_losses"], row["share_optimiser and clipping"], row["share_embeddings"]) > 0


@pytest.mark.integration
def test_a_forecast_beside_a_run_from_end_to_end(experiment, tmp_path, capsys):
    forecast.main([str(experiment), "--memory-steps", "0", "--output", str(tmp_path), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in rows].count("once_for_all") == 1
    for row in rows:
        assert row["flops_predicted"] == pytest.approx(row["flops"], rel=0.15)
        # the names of a training state's tensors take more than those of a model's
        assert row["stored_predicted"] == pytest.approx(row["stored"], rel=0.15, abs=30_000)
        assert row["seconds"] > 0
        assert row["seconds_predicted"] > 0
        assert row["peak_bytes"] is None


def test_a_forecast_needs_all_three_schedules(experiment):
    with pytest.raises(InputError, match="kd, maxidisc and minidisc are all needed"):
        forecast.trials_of(load_experiment(experiment, ["schedules=[kd]"]))


def test_reporting_from_end_to_end(tmp_path, capsys):
    words = ["--candidates", "3", "--validation-rows", "8", "--idle-seconds", "0.1", "--json"]
    reporting.main([*words, "--output", str(tmp_path), "--storage", str(tmp_path / "storage")])
    rows = json.loads(capsys.readouterr().out)
    whats = [row["what"] for row in rows]
    assert {"live, plain: a step", "live, terminal: drawing, for each second", "raydisc report"} <= set(whats)
    [parts] = [row for row in rows if row["what"] == "write a part of the ledger"]
    # five stages that all share; the candidates with their metrics and predictions; four stages, two predictions, two
    # metrics and a trial for each path
    assert parts["events"] == 5 + 1 + 1 + 4 + 3 * (4 + 2 + 2 + 1)
    assert list((tmp_path / "storage").iterdir()) == []


def test_peers_from_end_to_end(experiment, tmp_path, capsys):
    peers.main([str(experiment), "--repetitions", "1", "--device", "cpu", "--output", str(tmp_path), "--json"])
    capsys.readouterr()
    rows = pq.read_table(tmp_path / "peers.parquet").to_pylist()
    expected = [way for way in peers.WAYS if way != "trainer" or peer_loops.load_trainer()]
    assert [row["way"] for row in rows] == expected
    for row in rows:
        assert row["steps"] == 6
        assert row["seconds"] > 0
        assert 0 <= row["test"] <= 1
        assert row["test_se"] > 0
    assert rows[-1]["ratio"] == 1.0


def test_bad_options_are_one_sentence(experiment, capsys):
    assert common.run(roofline.main, [str(experiment), "--threads", "0"]) == 2
    assert common.run(scaling.main, [str(experiment), "--repetitions", "0"]) == 2
    assert common.run(filling.main, ["--jobs", "3", "--slots", "4"]) == 2
    assert common.run(scaling.main, ["--repetitions", "0", "--run", "nothing", "--run-storage", str(experiment)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "--threads: 0 is not between" in lines[0]
    assert "name a finished run with --run" in lines[1]
    assert "--jobs: 3 cannot fill 4 slots" in lines[2]
    assert "there is no run 'nothing'" in lines[3]
