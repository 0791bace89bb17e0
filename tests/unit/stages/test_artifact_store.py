import json
import multiprocessing
import os
import pickle
import signal
import time

import numpy as np
import pytest
import torch
from tiny_runs import Told, executor, search_of, tiny_experiment

from raydisc.stages.artifact import Artifact, Cost, Model, NotYetKnown
from raydisc.stages.context import Result
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.files import json_blob, read_weights, tensor_blob, weight_blobs
from raydisc.stages.store import AlteredArtifact, ArtifactStore
from raydisc.storage.folder import Held
from raydisc.tensors.views import tensor_views

PROMISE = Artifact(key="a" * 64, kind="made", inputs=("b" * 64, "c" * 64))
REQUEST = Evaluate(Artifact("d" * 64, "tokenise"), Artifact("e" * 64, "distil"))
FORKED = multiprocessing.get_context("fork")


def text(content):
    return lambda path: path.write_text(content)


def committed(store, promise=PROMISE):
    blobs = {"one.txt": text("first"), "folder/two.txt": text("second"), "empty": text("")}
    return store.commit(promise, {"metric": 0.5, "rows": [1, 2]}, Cost(7.0, 1.0, 2.0, 3.0), blobs)


def test_an_artifact_comes_back_as_it_was_written(tmp_path):
    written = committed(ArtifactStore(tmp_path))
    store = ArtifactStore(tmp_path)  # another process
    found = store.find(PROMISE.key)
    assert found == written
    assert (found.kind, found.inputs, found.cost) == ("made", PROMISE.inputs, Cost(7.0, 1.0, 2.0, 3.0))
    assert found["rows"] == [1, 2]
    assert found.flops == 7.0
    assert store.blob(found, "one.txt").tobytes() == b"first"
    assert store.blob(found, "folder/two.txt").tobytes() == b"second"
    assert store.blob(found, "empty").tobytes() == b""
    assert store.find("f" * 64) is None


def test_a_promise_knows_nothing_yet():
    for ask in (lambda: PROMISE["metric"], lambda: PROMISE.flops):
        with pytest.raises(NotYetKnown, match="made aaaaaaaaaaaa has not been computed"):
            ask()


def test_a_commit_is_whole_or_absent(tmp_path):
    store = ArtifactStore(tmp_path)

    def dies(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.commit(PROMISE, {}, Cost(), {"one.txt": text("first"), "two.txt": dies})
    assert store.find(PROMISE.key) is None
    assert not store.path(PROMISE, "one.txt").exists()
    assert [path.name[:9] for path in store.root.iterdir()] == [".writing-"]
    assert committed(store).facts  # it can be computed again, and the remains of the dead process are removed
    assert [path.name for path in store.root.iterdir()] == [PROMISE.key]


def test_a_full_disk_gets_back_what_was_written(tmp_path):
    store = ArtifactStore(tmp_path)

    def fills_up(path):
        path.symlink_to("/dev/full")
        path.write_bytes(b"x")

    with pytest.raises(OSError, match="No space left on device"):
        store.commit(PROMISE, {}, Cost(), {"one.txt": text("first"), "two.txt": fills_up})
    assert list(store.root.iterdir()) == []
    assert committed(store).facts


def test_an_altered_artifact_is_removed_once(tmp_path):
    store = ArtifactStore(tmp_path)
    found = committed(store)
    assert not store.discard_altered(PROMISE.key)
    with ArtifactStore(tmp_path).holding(PROMISE.key), pytest.raises(Held):
        store.discard_altered(PROMISE.key)
    store.path(found, "one.txt").write_text("fjrst")
    assert store.discard_altered(PROMISE.key)
    assert store.find(PROMISE.key) is None
    assert not store.discard_altered(PROMISE.key)
    assert committed(store) == found
    store.path(PROMISE, "manifest.json").write_text("{}")
    assert store.discard_altered(PROMISE.key)
    assert store.find(PROMISE.key) is None


def test_an_alteration_can_be_sent_between_processes():
    error = pickle.loads(pickle.dumps(AlteredArtifact("what was altered", "key", "file")))
    assert (str(error), error.key, error.file) == ("what was altered", "key", "file")


def test_a_finished_artifact_is_never_replaced(tmp_path):
    store = ArtifactStore(tmp_path)
    first = committed(store)
    again = store.commit(PROMISE, {"metric": 0.9}, Cost(), {"one.txt": text("other")})
    assert again == first
    assert store.blob(again, "one.txt").tobytes() == b"first"
    assert sorted(path.name for path in store.root.iterdir()) == [PROMISE.key]


def test_an_artifact_without_files(tmp_path):
    store = ArtifactStore(tmp_path)
    assert store.commit(PROMISE, {"source": "online"}, Cost(), {}) == store.find(PROMISE.key)
    assert [path.name for path in (store.root / PROMISE.key).iterdir()] == ["manifest.json"]


def test_the_checkpoints_go_when_the_artifact_is_there(tmp_path):
    store = ArtifactStore(tmp_path)
    folder = store.checkpoint_folder(PROMISE.key)
    folder.mkdir()
    (folder / "checkpoint.safetensors").touch()
    committed(store)
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["altered", "truncated", "removed"])
def test_damage_is_found_when_read(tmp_path, damage):
    committed(ArtifactStore(tmp_path))
    store = ArtifactStore(tmp_path)
    found = store.find(PROMISE.key)
    path = store.path(found, "one.txt")
    if damage == "altered":
        path.write_text("fjrst")
    elif damage == "truncated":
        path.write_text("fir")
    else:
        path.unlink()
    with pytest.raises(
        AlteredArtifact, match=rf"the file one.txt is not what was written; remove the folder '{path.parent}'"
    ):
        store.blob(found, "one.txt")
    assert store.blob(found, "folder/two.txt").tobytes() == b"second"


@pytest.mark.parametrize("content", ["", '{"key": "a', "[]", "{}"])
def test_a_damaged_manifest_is_found(tmp_path, content):
    store = ArtifactStore(tmp_path)
    committed(store)
    store.path(PROMISE, "manifest.json").write_text(content)
    with pytest.raises(AlteredArtifact, match="manifest.json is not what was written; remove the folder"):
        store.find(PROMISE.key)


def test_bytes_are_mapped_and_cannot_be_written(tmp_path):
    store = ArtifactStore(tmp_path)
    image = store.blob(committed(store), "one.txt")
    assert isinstance(image, np.memmap)
    assert not image.flags.writeable
    assert not image.flags.owndata


def test_bytes_may_come_from_elsewhere(tmp_path):
    asked = []

    def read(artifact, name):
        asked.append((artifact.key, name))
        return np.frombuffer(b'{"from": "memory"}', np.uint8)

    store = ArtifactStore(tmp_path, read)
    assert store.json(committed(store), "one.txt") == {"from": "memory"}
    assert asked == [(PROMISE.key, "one.txt")]


def test_tensors_are_views_of_the_image(tmp_path):
    state = {
        "matrix": torch.randn(3, 5), "half": torch.randn(7).half(), "whole": torch.arange(4), "none": torch.empty(0, 6),
        "double": torch.randn(2).double(), "brain": torch.randn(3).bfloat16(), "number": torch.tensor(2.5),
        "turned": torch.randn(4, 2).t(),
    }  # fmt: skip
    tensor_blob(state)(tmp_path / "file")
    image = np.memmap(tmp_path / "file", dtype=np.uint8, mode="r")
    found = tensor_views(image)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
        if tensor.numel():
            assert image.ctypes.data < found[name].data_ptr() < image.ctypes.data + image.nbytes


def test_a_candidate_is_cut_from_its_supernet(tmp_path):
    from tiny_models import tiny_config

    from raydisc.supernet.candidates import candidate
    from raydisc.testing.models import importance_with_empty_layers, sorted_state, tiny_teacher

    config = tiny_config()
    importance = importance_with_empty_layers(config)
    state = sorted_state(tiny_teacher(config), config, importance)
    whole = candidate(importance, 1.0).structure
    half = candidate(importance, 0.5).structure
    rows = [{"scale": 0.5, "heads": list(half.heads), "neurons": list(half.neurons)}]
    store = ArtifactStore(tmp_path)
    found = store.commit(
        PROMISE, {"candidates": rows, "outputs_flops": 0.0}, Cost(), weight_blobs(config, whole, 1.0, state)
    )
    for asked in (None, 1.0):
        weights = read_weights(store, Model(found, asked))
        assert (weights.structure, weights.scale) == (whole, 1.0)
        assert all(torch.equal(weights.state[name], tensor) for name, tensor in state.items())
        assert weights.config.to_dict() == config.to_dict()
    weights = read_weights(store, Model(found, 0.5))
    assert (weights.structure, weights.scale) == (half, 0.5)
    assert weights.state["bert.encoder.layer.2.output.dense.weight"].shape == (24, half.neurons[2])


# several processes


def slow_stage(log):
    """A stage that writes down who computed it."""

    def compute(request, context):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.4)
        return Result({"by": os.getpid()}, 5.0, {"who.json": json_blob(os.getpid())})

    return compute


def in_processes(target, count):
    processes = [FORKED.Process(target=target) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


@pytest.mark.integration
def test_two_processes_that_ask_for_one_key_compute_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluate, "compute", slow_stage(tmp_path / "log"))
    results = FORKED.Queue()

    def ask():
        told = Told()
        artifact = executor(tmp_path, told).execute(REQUEST)
        results.put((artifact["by"], told.stages[0][2]))

    processes = in_processes(ask, 3)
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(5)
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert len({by for by, _ in answers}) == 1
    assert sorted(found for _, found in answers) == [False, True, True]


@pytest.mark.integration
def test_a_holder_that_is_killed_frees_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluate, "compute", lambda request, context: time.sleep(60))

    def hold():
        executor(tmp_path, progress=lambda found: (tmp_path / "holding").touch()).execute(REQUEST)

    [holder] = in_processes(hold, 1)
    until = time.monotonic() + 5
    while not (tmp_path / "holding").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    monkeypatch.setattr(Evaluate, "compute", slow_stage(tmp_path / "log"))
    results = FORKED.Queue()
    [waiting] = in_processes(lambda: results.put(executor(tmp_path).execute(REQUEST)["by"]), 1)
    time.sleep(0.3)
    assert results.empty()  # the key is held
    os.kill(holder.pid, signal.SIGKILL)
    assert results.get(timeout=60) == waiting.pid
    holder.join(5)
    waiting.join(5)


def test_different_keys_do_not_wait_for_each_other(tmp_path):
    store = ArtifactStore(tmp_path)
    with store.holding("one"), store.holding("two"):
        pass


# the executor


@pytest.mark.integration
def test_finished_stages_are_found(tmp_path):
    search = search_of(tiny_experiment())
    first, second = Told(), Told()
    executor(tmp_path, first).run(search.prepare())
    executor(tmp_path, second).run(search.prepare())
    assert first.computed == ["tokenise", "finetune", "importance"]
    assert second.computed == []
    assert [stage[1] for stage in second.stages] == [stage[1] for stage in first.stages]


@pytest.mark.integration
def test_what_a_stage_cost_is_kept(tmp_path):
    heard = []
    told = Told()
    run, search = executor(tmp_path, told, heard.append), search_of(tiny_experiment())
    ready = run.run(search.prepare())
    run.run(search.outputs_of(ready, ready.teacher))
    tokenised, finetuned, importance, outputs = (artifact.cost for _, artifact, _ in told.stages)
    assert tokenised.flops == 0
    assert finetuned.flops > importance.flops > outputs.flops / 2 > 0
    for cost in (tokenised, finetuned, outputs, importance):
        assert cost.wall_seconds == cost.device_seconds > 0
        assert 0 < cost.cpu_seconds
    kept = json.loads((tmp_path / "artifacts" / told.keys[1] / "manifest.json").read_text())
    assert kept["cost"]["flops"] == finetuned.flops
    # progress names stage and key, from before the first step on
    assert [found.stage for found in heard if found.step == 0] == [
        "tokenise", "finetune", "importance", "teacher_outputs",
    ]  # fmt: skip
    steps = [found.step for found in heard if found.stage == "finetune" and found.step is not None]
    assert steps == list(range(len(steps)))
    assert {found.key for found in heard} == set(told.keys)
