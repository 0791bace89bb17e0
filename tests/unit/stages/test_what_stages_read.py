"""Gradients see training rows only, and memory that processes share is never written to."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from tiny_runs import Told, changed, executor, search_of, tiny_experiment, weights_of
from tiny_schedules import along, kd_from_supernet, minidisc
from variants import slow_but

from raydisc.stages.evaluate import Evaluate
from raydisc.stages.store import ArtifactStore
from raydisc.tasks.tokenised import table_from_buffer, table_to_buffer

pytestmark = pytest.mark.integration


def nonsense(image):
    """A split of as many rows, as long, with other tokens and other labels."""
    table = table_from_buffer(pa.py_buffer(image))
    rng = np.random.default_rng(0)
    lengths = [len(ids) for ids in table.column("input_ids")]
    ids = [rng.integers(5, 30, length).tolist() for length in lengths]
    columns = {"input_ids": pa.array(ids, pa.list_(pa.int32()))}
    for name in table.column_names:
        if name == "token_type_ids":
            columns[name] = pa.array([[0] * length for length in lengths], pa.list_(pa.int8()))
    columns["label"] = pa.array((table.column("label").to_numpy() + 1) % 3)
    return np.frombuffer(table_to_buffer(pa.table(columns)), np.uint8)


class Reader:
    """Gives files from the folder, some of them altered, and notes who was asked for."""

    def __init__(self, storage, altered=()):
        self.store, self.altered, self.read = ArtifactStore(storage), altered, []

    def __call__(self, artifact, name):
        self.read.append(name)
        image = self.store.map_blob(artifact, name)
        return nonsense(image) if name in self.altered else image


def all_stages(storage, experiment, reader):
    told = Told()
    run = executor(storage, told, read_blob=reader)
    search = search_of(experiment)
    run.run(along(search, (0.5,)))
    run.run(minidisc(search, 0.2, 1, False))
    run.run(kd_from_supernet(search, 0.2, 1, False))
    trained = [
        artifact for request, artifact, _ in told.stages if request.kind in {"finetune", "once_for_all", "distil"}
    ]
    return {artifact.key: weights_of(run.store, artifact) for artifact in trained}, told, run


@pytest.mark.parametrize("source", slow_but(["memory"], ["memory", "online"]))
def test_only_training_rows_reach_a_gradient(tmp_path, source):
    """Validation and test rows are swapped for nonsense: importance and all weights stay the same, metrics do not."""
    base = tiny_experiment()
    # one candidate only, so that validation, whatever it says, can choose no other teacher
    experiment = base.model_copy(
        update={
            "grid": changed(base.grid, scales=[0.5]),
            "teacher_outputs": changed(base.teacher_outputs, source=source),
        }
    )
    honest = Reader(tmp_path / "honest")
    expected, told, run = all_stages(tmp_path / "honest", experiment, honest)
    altered = Reader(tmp_path / "altered", ("validation.arrow", "test.arrow"))
    found, other_told, other_run = all_stages(tmp_path / "altered", experiment, altered)
    assert found == expected
    assert len(found) == 6
    by_kind = [{request.kind: artifact for request, artifact, _ in listener.stages} for listener in (told, other_told)]
    for kind, name in (("importance", "scores.safetensors"), ("importance", "model.safetensors")):
        assert by_kind[0][kind].blobs[name] == by_kind[1][kind].blobs[name]
    metrics = [[row["metric"] for row in stages["once_for_all"]["evaluations"]] for stages in by_kind]
    assert metrics[0] != metrics[1]
    assert "validation.arrow" in altered.read
    assert "test.arrow" not in altered.read + honest.read
    # the training rows do reach it
    swapped = Reader(tmp_path / "swapped", ("train.arrow",))
    trained, *_ = all_stages(tmp_path / "swapped", experiment, swapped)
    assert not set(trained.values()) & set(expected.values())
    student = by_kind[0]["distil"]
    run.execute(Evaluate(by_kind[0]["tokenise"], student))
    assert honest.read.count("test.arrow") == 1


class SharedMemory:
    """Files as writable arrays that live as long as the test, as torch sees Ray's object store."""

    def __init__(self, storage):
        self.store, self.images, self.written = ArtifactStore(storage), {}, {}

    def __call__(self, artifact, name):
        place = (artifact.key, name)
        if place not in self.images:
            self.images[place] = np.array(self.store.map_blob(artifact, name))
            self.written[place] = artifact.blobs[name]
        return self.images[place]

    def altered(self):
        """Names of the files whose bytes are not those on disk."""
        return [
            name for (key, name), image in self.images.items()
            if hashlib.sha256(image.tobytes()).hexdigest() != self.written[key, name]
        ]  # fmt: skip


@pytest.mark.parametrize("source", slow_but(["memory"], ["memory", "online"]))
def test_shared_memory_is_only_read(tmp_path, source):
    """Every stage runs on memory that could be written to; afterwards each byte is as it was."""
    base = tiny_experiment()
    experiment = base.model_copy(update={"teacher_outputs": changed(base.teacher_outputs, source=source)})
    memory = SharedMemory(tmp_path)
    _, told, run = all_stages(tmp_path, experiment, memory)
    by_kind = {request.kind: artifact for request, artifact, _ in told.stages}
    run.execute(Evaluate(by_kind["tokenise"], by_kind["distil"]))
    assert memory.altered() == []
    names = {name for _, name in memory.images}
    assert {"train.arrow", "validation.arrow", "test.arrow", "model.safetensors", "scores.safetensors"} <= names
    assert ("hidden.arrow" in names) == (source == "memory")
    # the check sees a single changed byte
    next(iter(memory.images.values()))[-1] ^= 1
    assert len(memory.altered()) == 1
