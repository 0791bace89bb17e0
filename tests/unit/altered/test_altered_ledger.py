"""Parts of the ledger: each is read, or refused in one sentence."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from altering import altered, damaged, few, one_sentence
from hypothesis import example, given
from hypothesis import strategies as st

from raydisc.errors import InputError
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RunState, list_runs
from raydisc.report.schema import REQUIRED
from raydisc.report.show import show


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A part of the ledger's stages."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    ledger.write("stages", [{"key": "k", "kind": "distil", "state": "finished", "run": "mine", "inputs": ["a"]}], "k")
    [path] = ledger.root.glob("stages/*.parquet")
    return path.read_bytes()


@few
@given(data=st.data())
def test_parts_of_the_ledger(storage: Path, part: bytes, data: st.DataObject) -> None:
    folder = storage / "ledger" / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "k-0.parquet").write_bytes(part)
    (folder / "l-0.parquet").write_bytes(data.draw(damaged(part)))
    with one_sentence(InputError):
        rows = Ledger(storage / "ledger").rows("stages")
        assert "k" in [row["key"] for row in rows]
        list_runs(storage)


def test_a_run_in_the_ledger_that_would_lie_elsewhere(storage: Path) -> None:
    RunState("toy", "finished", 1).write(storage.parent / "beside" / "run")
    for number, name in enumerate([None, "../beside/run", str(storage.parent / "beside" / "run"), "mine"]):
        Ledger(storage / "ledger").write(
            "stages", [{"key": str(number), "kind": "distil", "run": name, "state": "finished"}], f"{number}"
        )
    assert [run["name"] for run in list_runs(storage)] == ["mine"]
    shutil.rmtree(storage.parent / "beside" / "run")


@pytest.mark.parametrize("column", REQUIRED["stages"])
def test_a_row_of_the_ledger_that_lacks_what_all_have(storage: Path, part: bytes, column: str) -> None:
    folder = storage / "ledger" / "stages"
    folder.mkdir(parents=True)
    (folder / "k.parquet").write_bytes(part)
    lacking = pq.read_table(folder / "k.parquet").drop_columns(column)
    for altered_part in (lacking, lacking.append_column(column, pa.nulls(1, pa.string()))):
        pq.write_table(altered_part, folder / "l.parquet")
        for read in (Ledger(storage / "ledger").rows, lambda table: list_runs(storage)):
            with pytest.raises(InputError, match=rf"cannot be read \(.*l.parquet: a row has no '{column}'"):
                read("stages")


SETTINGS = {"scale": 0.5, "lam": None, "teacher": ["t", None], "config": {"epochs": 1.0}}


@few
@given(
    altered(SETTINGS).map(json.dumps) | st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["teacher_outputs", "once_for_all", "distil"]),
)
@example("[1]", "teacher_outputs")
@example('{"teacher": 3}', "teacher_outputs")
@example('{"teacher": "t"}', "teacher_outputs")
@example('{"lam": "much"}', "once_for_all")
@example("[" * 100_000, "distil")
def test_settings_in_the_ledger(storage: Path, text: str, kind: str) -> None:
    shutil.rmtree(storage / "ledger", ignore_errors=True)
    ledger = Ledger(storage / "ledger")
    kept = "memory" if kind == "teacher_outputs" else None
    row = {"key": "k", "kind": kind, "run": "mine", "state": "finished", "settings": text, "kept": kept}
    ledger.write("stages", [row], "k")
    ledger.write("candidates", [{"key": "k", "scale": 0.5, "metric": 0.5}], "k")
    ledger.write("metrics", [{"key": "k", "split": "validation", "scale": 0.5, "metric": "accuracy"}], "k")
    with one_sentence(InputError):
        json.dumps(show(ledger, "mine"), allow_nan=False)


def test_settings_that_no_run_writes(storage: Path) -> None:
    ledger = Ledger(storage / "ledger")
    ledger.write("stages", [{"key": "k", "kind": "distil", "run": "mine", "state": "finished", "settings": "{"}], "k")
    with pytest.raises(InputError, match="the ledger's stage 'k' has settings that no run writes; remove its part"):
        show(ledger, "mine")


def test_links_and_other_files_are_no_parts_of_the_ledger(storage: Path, part: bytes) -> None:
    folder = storage / "ledger" / "stages"
    folder.mkdir(parents=True)
    (folder / "README.txt").write_text("no part")
    (folder / "k.parquet").symlink_to(storage.parent / "beside" / "canary")
    assert Ledger(storage / "ledger").rows("stages") == []
    (folder / "l.parquet").write_bytes(part[:-9])
    with pytest.raises(InputError, match=r"the ledger's '.*stages' cannot be read \(.*l.parquet.*\); remove the part"):
        Ledger(storage / "ledger").rows("stages")
