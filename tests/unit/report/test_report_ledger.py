from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raydisc.report.ledger import Ledger
from raydisc.report.schema import SCHEMAS, WRITTEN_AT


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def stage(**fields: object) -> dict[str, object]:
    return {"key": "k", "kind": "distil", "state": "finished", "flops": 1.0, "inputs": ["a"]} | fields


@pytest.mark.parametrize("table", SCHEMAS)
def test_an_empty_table_has_its_columns(ledger: Ledger, table: str) -> None:
    frame = ledger.read(table)
    assert len(frame) == 0
    assert list(frame.columns) == SCHEMAS[table].names
    assert ledger.rows(table) == []


def test_what_is_written_is_read(ledger: Ledger) -> None:
    ledger.write("stages", [stage(seed=3)], "part")
    [row] = ledger.rows("stages")
    assert (row["key"], row["inputs"], row["flops"], row["seed"], row["trial"]) == ("k", ["a"], 1.0, 3, None)
    assert row[WRITTEN_AT]
    assert ledger.read("stages")["kind"].tolist() == ["distil"]


def test_parts_are_never_changed(ledger: Ledger) -> None:
    ledger.write("stages", [stage()], "part")
    [before] = ledger.root.rglob("*.parquet")
    content = before.read_bytes()
    ledger.write("stages", [stage()], "part")
    assert [before] == list(ledger.root.rglob("*.parquet"))
    ledger.write("stages", [stage(flops=2.0)], "part")
    assert len(list(ledger.root.rglob("*.parquet"))) == 2
    assert before.read_bytes() == content


def test_what_was_read_is_not_read_again(ledger: Ledger) -> None:
    for number in range(3):
        ledger.write("stages", [stage(key=f"k{number}")], f"k{number}")
    assert len(ledger.rows("stages")) == 3
    for part in ledger.root.rglob("*.parquet"):
        part.write_bytes(b"nobody looks at it again")
    Ledger(ledger.root).write("stages", [stage(key="k3")], "k3")
    assert sorted(row["key"] for row in ledger.rows("stages")) == ["k0", "k1", "k2", "k3"]
    assert [row["key"] for row in ledger.rows("stages", keys=["k1"])] == ["k1"]


def test_other_candidates_predictions_are_not_opened(ledger: Ledger) -> None:
    for scale in (0.3, 0.35):
        ledger.write_predictions("k", "validation", scale, np.full((2, 2), scale), np.zeros(2), f"k-{scale:g}")
    [other] = ledger.root.glob("predictions/k-0.35-*")
    other.write_bytes(b"nobody looks at it")
    found = ledger.predictions("k", "validation", 0.3)
    assert found is not None
    assert found[0].tolist() == np.full((2, 2), 0.3, dtype=np.float32).tolist()


def test_rows_of_a_removed_part_are_gone(ledger: Ledger) -> None:
    ledger.write("stages", [stage(key="a")], "a")
    ledger.write("stages", [stage(key="b")], "b")
    assert len(ledger.rows("stages")) == 2
    [part] = ledger.root.glob("stages/a-*")
    part.unlink()
    assert [row["key"] for row in ledger.rows("stages")] == ["b"]


def test_no_rows_make_no_part(ledger: Ledger) -> None:
    ledger.write("stages", [], "part")
    ledger.write_predictions("k", "test", None, np.zeros((0, 2)), np.zeros(0), "k")
    assert not ledger.root.exists()


def test_an_unfinished_part_is_not_read(ledger: Ledger) -> None:
    ledger.write("stages", [stage()], "part")
    (ledger.root / "stages" / ".1234.tmp").write_bytes(b"half a file")
    assert len(ledger.rows("stages")) == 1


def test_a_failed_write_leaves_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="no space"):
        ledger.write("stages", [stage()], "part")
    assert list((ledger.root / "stages").iterdir()) == []


def test_the_last_finished_row_of_a_stage_counts(ledger: Ledger) -> None:
    ledger.write("stages", [stage(state="failed", flops=1.0)], "a")
    ledger.write("stages", [stage(flops=2.0)], "b")
    ledger.write("stages", [stage(flops=3.0)], "c")
    ledger.write("stages", [stage(state="failed", flops=4.0)], "d")
    assert [row["flops"] for row in ledger.rows("stages")] == [3.0]
    assert [row["flops"] for row in ledger.rows("stages", latest=False)] == [1.0, 2.0, 3.0, 4.0]


def test_a_metric_without_step_or_scale_is_one_thing(ledger: Ledger) -> None:
    for value in (0.1, 0.2):
        row = {"key": "k", "split": "test", "step": None, "scale": None, "metric": "accuracy", "value": value}
        ledger.write("metrics", [row], f"m{value:g}")
    assert [row["value"] for row in ledger.rows("metrics")] == [0.2]


def test_filters(ledger: Ledger) -> None:
    ledger.write("stages", [stage(key=key, run=run) for key, run in (("a", "x"), ("b", "y"), ("c", None))], "p")
    assert [row["key"] for row in ledger.rows("stages", keys=["a", "c", "z"])] == ["a", "c"]
    assert [row["key"] for row in ledger.rows("stages", run=["x", "y"])] == ["a", "b"]
    assert [row["key"] for row in ledger.rows("stages", run="y")] == ["b"]
    assert [row["key"] for row in ledger.rows("stages", run=None)] == ["c"]


def test_predictions_come_back_by_row_for_their_key_split_and_scale(ledger: Ledger) -> None:
    predictions = np.arange(6, dtype=np.float32).reshape(3, 2)
    labels = np.array([0, 1, 0])
    ledger.write_predictions("k", "validation", 0.3, predictions, labels, "k-0.3")
    ledger.write_predictions("k", "validation", 0.5, predictions + 1, labels, "k-0.5")
    ledger.write_predictions("k", "test", None, predictions + 2, labels, "k-test")
    found, truth = ledger.predictions("k", "validation", 0.3) or pytest.fail("nothing stored")
    np.testing.assert_array_equal(found, predictions)
    np.testing.assert_array_equal(truth, labels)
    found, _ = ledger.predictions("k", "test") or pytest.fail("nothing stored")
    np.testing.assert_array_equal(found, predictions + 2)
    assert ledger.predictions("k", "validation") is None
    assert ledger.predictions("other", "test") is None


def test_a_key_that_begins_like_another_is_another(ledger: Ledger) -> None:
    ledger.write_predictions("kk", "test", None, np.ones(2), np.ones(2), "kk")
    assert ledger.predictions("k", "test") is None


def test_predictions_of_a_regression_are_a_column(ledger: Ledger) -> None:
    ledger.write_predictions("k", "test", None, np.array([0.5, 1.5]), np.array([1.0, 2.0]), "k")
    found, _ = ledger.predictions("k", "test") or pytest.fail("nothing stored")
    assert found.tolist() == [[0.5], [1.5]]


def test_rows_that_do_not_fit_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="no column colour"):
        ledger.write("stages", [{"colour": "red"}], "p")
    with pytest.raises(ValueError, match="no table 'stage'"):
        ledger.read("stage")
    for name in ("../p", "", ".p", "a/b"):
        with pytest.raises(ValueError, match="ledger part"):
            ledger.write("stages", [stage()], name)
    with pytest.raises(ValueError, match="must begin with their key"):
        ledger.write_predictions("k", "test", None, np.ones(2), np.ones(2), "other")
    with pytest.raises(ValueError, match="write_predictions"):
        ledger.write("predictions", [{"key": "k"}], "k")


def test_has_knows_a_part_by_its_name(ledger: Ledger) -> None:
    ledger.write("stages", [stage()], "abc")
    assert ledger.has("stages", "abc")
    assert not ledger.has("stages", "ab")
