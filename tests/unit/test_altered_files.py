"""Files that may have been altered, at random: each is read, or refused in one sentence; nothing beside is touched."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from raydisc.distillation.checkpoint import load
from raydisc.errors import InputError
from raydisc.experiment import load_experiment
from raydisc.models.student import StudentCard, read_card
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RUN_FILE, RunState, list_runs
from raydisc.report.show import show
from raydisc.settings import TaskConfig
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.context import read_tensors, tensor_blob, tensor_views
from raydisc.stages.store import AlteredArtifact, ArtifactStore
from raydisc.stages.tokenise import TOKENIZER_PREFIX, copy_tokenizer
from raydisc.tasks.base import load_task
from raydisc.tasks.files import read_texts

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECRET = b"nobody reads or writes this"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A storage; whatever lies beside it is found as it was."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "canary").write_bytes(SECRET)
    (tmp_path / "storage").mkdir()
    yield tmp_path / "storage"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "storage"]
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["canary"]
    assert (tmp_path / "beside" / "canary").read_bytes() == SECRET


@contextmanager
def one_sentence(kind: type[Exception]) -> Iterator[None]:
    """It may be refused, but with an error of this kind that can be shown."""
    try:
        yield
    except kind as error:
        message = str(error)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", message)
        assert len(message) < 1000
        assert SECRET.decode() not in message


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with something in it replaced, added or left out."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(ANYTHING)
    changed = dict(value) if isinstance(value, dict) else list(value)
    place = draw(st.sampled_from(list(changed) if isinstance(changed, dict) else range(len(changed))))
    if draw(st.booleans()):
        changed[place] = draw(altered(changed[place]))
    elif draw(st.booleans()):
        del changed[place]
    elif isinstance(changed, dict):
        changed[draw(st.text(max_size=8))] = changed[place]
    return changed


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file's bytes cut short, with others in their place, or with some more."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 16)) | st.just(len(content)))
    return content[:start] + draw(st.binary(max_size=16)) + content[end:]


EXPERIMENT = {
    "task": {"reviews": {"train": 100}},
    "teacher": {"architecture": {"model_type": "bert"}, "finetune": {"epochs": 1.0}},
    "grid": {"scales": [0.8, 0.5]},
    "student": {"scale": 0.25},
    "schedules": ["kd", {"minidisc": {"lam": 0.2}}, {"takd": {"path": [0.8, 0.5]}}],
    "once_for_all": {"sandwich": {"middle": 1}},
    "distillation": {"losses": {"logit_mse": 1.0}, "layer_mapping": [[0, 1]]},
    "seeds": [0, 1],
    "name": "mine",
    "storage": "runs",
}


@few
@given(
    altered(EXPERIMENT).map(lambda data: yaml.safe_dump(data).encode()) | damaged(yaml.safe_dump(EXPERIMENT).encode())
)
@example(yaml.safe_dump(EXPERIMENT).encode())
def test_experiment_files(storage: Path, content: bytes) -> None:
    file = storage / "mine.yaml"
    file.write_bytes(content)
    with one_sentence(InputError):
        experiment = load_experiment(file)
        assert load_experiment(file).fingerprint() == experiment.fingerprint()
        assert (storage / experiment.name).parent == storage
        experiment.to_yaml().encode()


KEY = "a" * 64
TENSORS = {"one": torch.arange(6.0).view(2, 3), "two": torch.zeros(3, dtype=torch.int64), "none": torch.zeros(0, 2)}


def stored(storage: Path) -> ArtifactStore:
    """A store with one artifact: tensors, and a tokenizer's file."""
    store = ArtifactStore(storage)
    blobs = {"model.safetensors": tensor_blob(TENSORS), f"{TOKENIZER_PREFIX}vocab.txt": lambda path: path.touch()}
    store.commit(Artifact(KEY, "tokenise", ("b" * 64,)), {"metric": 0.5, "rows": [1, 2]}, Cost(7.0, 1.0, 2.0), blobs)
    return ArtifactStore(storage)


MANIFEST = {
    "key": KEY,
    "kind": "tokenise",
    "inputs": ["b" * 64],
    "facts": {"metric": 0.5, "rows": [1, 2]},
    "cost": {"flops": 7.0, "device_seconds": 1.0, "wall_seconds": 2.0, "cpu_seconds": 0.0},
    "blobs": {"model.safetensors": "c" * 64, "tokenizer/vocab.txt": "d" * 64},
}
ESCAPES = [
    "../../../beside/canary", "tokenizer/../../../../beside/canary", "/etc/passwd", "tokenizer//etc/passwd", "..", ".",
    "", "a/../b", "./a", "a//b", "a\0b", "tokenizer/\0",
]  # fmt: skip


@few
@given(altered(MANIFEST).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(MANIFEST).encode()))
@example(b"[" * 100_000)
@example(b'{"key": ' + b"9" * 5000 + b"}")
@example(json.dumps(MANIFEST | {"cost": MANIFEST["cost"] | {"flops": float("nan")}}).encode())
@example(json.dumps(MANIFEST | {"key": "e" * 64}).encode())
def test_manifests(storage: Path, content: bytes) -> None:
    store = ArtifactStore(storage)
    (store.root / KEY).mkdir(exist_ok=True)
    (store.root / KEY / "manifest.json").write_bytes(content)
    with one_sentence(AlteredArtifact):
        artifact = store.find(KEY)
        assert artifact is not None
        assert artifact.key == KEY
        for name in artifact.blobs:
            assert store.path(artifact, name).resolve().is_relative_to(store.root / KEY)
            store.blob(artifact, name)


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_out_of_an_artifact(storage: Path, name: str) -> None:
    store = stored(storage)
    manifest = MANIFEST | {"blobs": {name: "c" * 64}}
    (store.root / KEY / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AlteredArtifact, match=f"artifact {KEY}: manifest.json is not what was written"):
        store.find(KEY)
    forged = Artifact(KEY, "tokenise", blobs={TOKENIZER_PREFIX + name: "c" * 64})
    (storage / "student").mkdir(exist_ok=True)
    with pytest.raises(AlteredArtifact, match="is not what was written"):
        copy_tokenizer(store, forged, storage / "student")


def test_links_that_lead_out_of_an_artifact(storage: Path) -> None:
    store = stored(storage)
    found = store.find(KEY)
    assert found is not None
    path = store.path(found, "model.safetensors")
    path.rename(storage.parent / "beside" / "moved")
    path.symlink_to(storage.parent / "beside" / "moved")
    with pytest.raises(AlteredArtifact, match="the file model.safetensors is not what was written; remove the folder"):
        store.blob(found, "model.safetensors")
    path.unlink()
    (storage.parent / "beside" / "moved").unlink()


def image_of(header: Any, body: bytes) -> bytes:
    """A tensor file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


BODY = bytes(range(48))
HEADER = {
    "__metadata__": {"format": "pt"},
    "one": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "two": {"dtype": "I64", "shape": [3], "data_offsets": [24, 48]},
}


def lying(**changes: Any) -> bytes:
    return image_of(HEADER | {"two": HEADER["two"] | changes}, BODY)


@few
@given(altered(HEADER).map(lambda header: image_of(header, BODY)) | damaged(image_of(HEADER, BODY)))
@example(image_of(HEADER, BODY))
@example(b"")
@example((2**63).to_bytes(8, "little") + b"{}")
@example(lying(data_offsets=[24, 2**40]))
@example(lying(data_offsets=[0, 24]))
@example(lying(data_offsets=[-24, 0]))
@example(lying(data_offsets=[48, 24]))
@example(lying(data_offsets=[32, 48], shape=[2]))
@example(lying(shape=[2**62, 4]))
@example(lying(shape=[0, 2**70], data_offsets=[24, 24]))
@example(lying(dtype="F8"))
@example(image_of(HEADER, BODY + b"more"))
@example(image_of(b"[" * 100_000, BODY))
def test_tensor_files(storage: Path, content: bytes) -> None:
    store = ArtifactStore(storage)
    key = "f" * 62 + f"{hash(content) % 256:02x}"
    found = store.commit(Artifact(key, "distil"), {}, Cost(), {"weights": lambda path: path.write_bytes(content)})
    with one_sentence(AlteredArtifact):
        for tensor in read_tensors(store, found, "weights").values():
            assert tensor.nbytes <= len(content)
            tensor.sum()


def test_a_tensor_file_as_it_is_written_is_read(storage: Path) -> None:
    store = stored(storage)
    found = store.find(KEY)
    assert found is not None
    read = tensor_views(store.blob(found, "model.safetensors"))
    assert {name: tensor.tolist() for name, tensor in read.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


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
            "stages", [{"key": str(number), "run": name, "state": "finished"}], f"{number}"
        )
    assert [run["name"] for run in list_runs(storage)] == ["mine"]
    shutil.rmtree(storage.parent / "beside" / "run")


def test_a_row_of_the_ledger_without_its_time(storage: Path, part: bytes) -> None:
    folder = storage / "ledger" / "stages"
    folder.mkdir(parents=True)
    (folder / "k.parquet").write_bytes(part)
    table = pq.read_table(folder / "k.parquet")
    undated = table.drop_columns("written_at")
    for altered_part in (undated, undated.append_column("written_at", pa.nulls(1, pa.string()))):
        pq.write_table(altered_part, folder / "l.parquet")
        for read in (Ledger(storage / "ledger").rows, lambda table: list_runs(storage)):
            with pytest.raises(
                InputError, match=r"cannot be read \(.*l.parquet: a row does not say when it was written"
            ):
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


EVALUATIONS = [{"step": 2, "metric": 0.5, "candidates": [{"scale": 0.5}]}, {"step": 4, "metric": 0.4}]
PROGRESS = {
    "step": 5, "flops": 7.5, "evaluations": EVALUATIONS, "best": 0.5, "since_best": 1, "wall_before": 1.5,
    "cpu_before": 1.25, "whole_table": False, "tensors": {},
}  # fmt: skip


@few
@given(altered(PROGRESS).map(json.dumps), st.booleans())
@example(json.dumps(PROGRESS | {"step": "two"}), False)
@example(json.dumps(PROGRESS | {"step": -1}), True)
@example(json.dumps(PROGRESS | {"flops": [7.5]}), False)
@example(json.dumps(PROGRESS | {"evaluations": [{"metric": 0.5}, {"step": 4}]}), False)
@example(json.dumps(PROGRESS | {"since_best": 2}), False)
@example(json.dumps(PROGRESS | {"tensors": {"model.one": 1}}), False)
@example(json.dumps([PROGRESS]), True)
def test_checkpoints(storage: Path, text: str, sharded: bool) -> None:
    """One that is not what was written counts as none."""
    told, file = storage / "checkpoint.json", storage / "checkpoint.safetensors"
    told.unlink(missing_ok=True)
    save_file(TENSORS, file, {"state": json.dumps(PROGRESS) if sharded else text})
    if sharded:
        told.write_text(text)
    state = load(storage)
    if state is None:
        assert not told.exists()
        assert not file.exists()
    else:
        assert state.step >= 0
        assert state.flops + state.wall_before + state.cpu_before is not None
        assert not state.evaluations or state.evaluations[-1 - state.since_best]["step"] is not None
        assert state.tensors.keys() == TENSORS.keys()


def test_a_checkpoint_as_it_is_written_is_read(storage: Path) -> None:
    save_file(TENSORS, storage / "checkpoint.safetensors", {"state": json.dumps(PROGRESS)})
    state = load(storage)
    assert state is not None
    assert asdict(replace(state, tensors={})) == PROGRESS


ROWS = [{"text": f"row {number}", "label": number % 2} for number in range(6)]
METRICS = ["accuracy", "f1", "pearson_spearman", "token_accuracy", "span_f1", "token_likelihood"]
LABEL = st.sampled_from(
    ["O", "B-x", "", "a\n", "\x1b[31m", 0, 1, 2, -1, 2**63, 1e30, 0.5, True, None, ["O"], [], {"x": 1}]
)


def task_file(suffix: str) -> bytes:
    """A file of `ROWS`."""
    content = pa.BufferOutputStream()
    table = pa.Table.from_pylist(ROWS)
    if suffix == ".parquet":
        pq.write_table(table, content)
    elif suffix == ".csv":
        pa.csv.write_csv(table, content)
    else:
        return as_lines(ROWS)
    return content.getvalue().to_pybytes()


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@few
@given(data=st.data(), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]), metric=st.sampled_from(METRICS))
def test_files_of_a_task(storage: Path, data: st.DataObject, suffix: str, metric: str) -> None:
    file = storage / f"rows{suffix}"
    file.write_bytes(data.draw(st.binary(max_size=64) | damaged(task_file(suffix)) | st.just(task_file(suffix))))
    read_task(file, metric)


@few
@given(st.sampled_from(["row", ["two", "words"]]), st.lists(LABEL, min_size=1, max_size=3), st.sampled_from(METRICS))
@example("row", [2**63], "accuracy")
@example("row", [1e30, 1.0], "accuracy")
@example("row", ["a\n", "\x1b[31m"], "span_f1")
def test_labels_of_a_task(storage: Path, text: Any, labels: list[Any], metric: str) -> None:
    file = storage / "rows.jsonl"
    file.write_bytes(as_lines([{"text": text, "label": label} for label in labels]))
    read_task(file, metric)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"text,l\xff\x1b[31mbel\nrow,1\n"),
        ("rows.csv", b"text,label\n\xff\x0f,1,\x1b[31m\n"),
        ("rows.jsonl", b'{"text": "\xff", "label": 1}\n'),
        ("rows.jsonl", b'{"l\xed\xa0\x80": "row"}\n'),
        ("rows.jsonl", b'{"%s": 1, "other": 2}\n' % (b"name" * 1000)),
        ("rows.parquet", b"PAR1" + bytes(range(64)) + b"PAR1"),
    ],
)
def test_files_that_cannot_be_a_task(storage: Path, name: str, content: bytes) -> None:
    (storage / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}' (cannot be read as|has no column)"):
        read_texts(storage / name, ["text"])
    read_task(storage / name, "accuracy")


def read_task(file: Path, metric: str) -> None:
    """Read a file as a task's splits and as rows to predict; either may be refused."""
    task = TaskConfig(train=str(file), validation=str(file), test=str(file), text=["text"], metric=metric)
    with one_sentence(InputError):
        assert load_task(task).splits["train"].num_rows > 0
    with one_sentence(InputError):
        assert read_texts(file, ["text"]).column_names == ["text_0"]


STATE = {"task": "toy", "state": "running", "trials": 3, "when": "2026-01-01", "host": "here", "pid": 1}
CARD = {
    "key": KEY, "schedule": "minidisc", "path": [0.5], "scale": 0.25, "kind": "classification", "classes": ["a", "b"],
    "text": ["text"], "max_length": 32, "metric": "accuracy", "validation_metric": 0.5, "plain": False,
}  # fmt: skip


@few
@given(altered(STATE).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(STATE).encode()))
@example(json.dumps(STATE | {"pid": 10**30}).encode())
def test_notes_of_runs(storage: Path, content: bytes) -> None:
    RunState("toy", "finished", 1).write(storage / "mine")
    (storage / "mine" / RUN_FILE).write_bytes(content)
    with one_sentence(InputError):
        assert [run["name"] for run in list_runs(storage)] == ["mine"]


@few
@given(altered(CARD).map(lambda data: json.dumps(data).encode()) | damaged(json.dumps(CARD).encode()))
@example(b"[" * 100_000)
def test_cards_of_students(storage: Path, content: bytes) -> None:
    (storage / "raydisc.json").write_bytes(content)
    with one_sentence(InputError):
        card = read_card(storage)
        assert isinstance(card, StudentCard)
        assert isinstance(card.path, tuple)
