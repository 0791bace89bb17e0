"""Manifests, files and checkpoints of stages: each is read, or refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from altering import KEY, TENSORS, altered, damaged, few, one_sentence
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.files import read_tensors, tensor_blob
from raydisc.stages.store import AlteredArtifact, ArtifactStore
from raydisc.stages.tokenise import TOKENIZER_PREFIX, copy_tokenizer
from raydisc.tensors.views import tensor_views
from raydisc.training.checkpoint import load, save


def stored(storage: Path) -> ArtifactStore:
    """A store with one artifact: tensors, and a tokenizer's file."""
    store = ArtifactStore(storage)
    blobs = {"model.safetensors": tensor_blob(TENSORS), f"{TOKENIZER_PREFIX}vocab.txt": lambda path: path.touch()}
    store.commit(Artifact(KEY, "made", ("b" * 64,)), {"metric": 0.5, "rows": [1, 2]}, Cost(7.0, 1.0, 2.0), blobs)
    return ArtifactStore(storage)


MANIFEST = {
    "key": KEY,
    "kind": "made",
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


CANDIDATE = {"scale": 0.5, "measured_scale": 0.5, "parameters": 7, "reference": 1.0, "metric": 0.5, "se": 0.1}
EVALUATIONS = [{"step": 2, "metric": 0.5, "candidates": [CANDIDATE]}, {"step": 4, "metric": 0.4, "se": 0.1}]
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
@example(json.dumps(PROGRESS | {"evaluations": [EVALUATIONS[0] | {"candidates": [{"scale": 0.5}]}]}), False)
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
        assert not state.evaluations or state.evaluations[-1 - state.since_best].step is not None
        assert state.tensors.keys() == TENSORS.keys()


def test_a_checkpoint_as_it_is_written_is_read(storage: Path) -> None:
    save_file(TENSORS, storage / "checkpoint.safetensors", {"state": json.dumps(PROGRESS)})
    state = load(storage)
    assert state is not None
    save(storage / "again", state)
    with safe_open(storage / "again" / "checkpoint.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["state"]) == PROGRESS


def test_shards_that_cannot_be_read_count_as_none(storage: Path) -> None:
    (storage / "checkpoint.json").write_text(json.dumps(PROGRESS))
    (storage / f"shards-{PROGRESS['step']}").mkdir()
    (storage / f"shards-{PROGRESS['step']}" / "model.safetensors").write_bytes(b"short")
    assert load(storage) is None
