"""A storage on a server of S3 that is slow and fails at random; what two machines make of it."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from s3_server import Server, faulty
from tiny_runs import Told, executor, search_of, tiny_experiment, weights_of

from raydisc.errors import Stopped, StorageError
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RunState, list_runs
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.checkpoint_upload import carried_checkpoint
from raydisc.stages.executor import StageEvent
from raydisc.stages.store import AlteredArtifact, ArtifactStore
from raydisc.storage.faults import Patience
from raydisc.storage.mirrored import MirroredStorage
from raydisc.storage.remote import Remote
from raydisc.training.checkpoint import TrainingState, load, save

pytestmark = pytest.mark.integration

PROMISE = Artifact(key="a" * 64, kind="made")
LARGE = np.random.default_rng(0).integers(0, 255, 12_000_000, dtype=np.uint8).tobytes()
"""More than one part of an upload."""


def machine(folder: Path, address: str, seconds: float = 60.0) -> MirroredStorage:
    """A storage as a machine of its own has it."""
    return MirroredStorage(folder, Remote(address, Patience(seconds, first_s=0.02, longest_s=0.5)))


def committed(store: ArtifactStore) -> Artifact:
    return store.commit(PROMISE, {"metric": 0.5}, Cost(7.0), {"large": lambda path: path.write_bytes(LARGE)})


def test_artifacts_and_ledger_behind_a_faulty_server(s3: Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    with faulty(s3, share=0.3) as (seen, proxy):
        one, two = (machine(tmp_path / name, seen.address(f"{bucket}/runs")) for name in ("one", "two"))
        stores = [ArtifactStore(one), ArtifactStore(two)]
        assert stores[1].find(PROMISE.key) is None
        with stores[0].holding(PROMISE.key):
            written = committed(stores[0])
        assert stores[1].find(PROMISE.key) == written
        assert stores[1].size(written, "large") == len(LARGE)
        assert stores[1].blob(written, "large").tobytes() == LARGE
        row = {"key": "k", "kind": "distil", "run": "r", "trial": "t", "state": "finished", "flops": 1.0}
        for number in range(12):
            Ledger(one / "ledger").write("stages", [row | {"key": f"k{number}"}], f"k{number}")
        Ledger(two / "ledger").write("stages", [row | {"key": "k3"}], "k3")  # the same again
        found = Ledger(two / "ledger")
        assert found.has("stages", "k3")
        assert not found.has("stages", "k")
        assert set(found.read("stages")["key"]) == {f"k{number}" for number in range(12)}
        assert len(two.names("ledger/stages")) == 12
        RunState(task="toy", state="finished", trials=1).write(one / "r")
        assert [(run["name"], run["state"]) for run in list_runs(two)] == [("r", "finished")]
    assert set(proxy.happened) == {"slow", "error", "refused", "lost", "half"}, proxy.happened


def test_an_artifact_that_is_there_is_not_written_over(s3: Server, tmp_path: Path) -> None:
    address = s3.address(f"{s3.bucket()}/runs")
    first, second = (ArtifactStore(machine(tmp_path / name, address)) for name in ("one", "two"))
    written = committed(first)
    again = second.commit(PROMISE, {"metric": 0.9}, Cost(), {"large": lambda path: path.write_bytes(b"other")})
    assert again == written
    assert second.blob(again, "large").tobytes() == LARGE


def test_an_upload_that_is_broken_off_counts_for_nothing(s3: Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    with faulty(s3, share=1.0, faults=("error",)) as (down, _):
        broken = ArtifactStore(machine(tmp_path / "one", down.address(f"{bucket}/runs"), seconds=0.5))
        with pytest.raises(StorageError, match="also after 0.5 seconds"):
            committed(broken)
    store = ArtifactStore(machine(tmp_path / "one", s3.address(f"{bucket}/runs")))
    assert store.find(PROMISE.key) is None
    assert committed(store).facts == {"metric": 0.5}


@pytest.mark.parametrize("damage", ["altered", "truncated", "removed"])
def test_damage_behind_the_address_is_found_and_removed(s3: Server, tmp_path: Path, damage: str) -> None:
    bucket = s3.bucket()
    address = s3.address(f"{bucket}/runs")
    found = committed(ArtifactStore(machine(tmp_path / "one", address)))
    place = f"/{bucket}/runs/artifacts/{PROMISE.key}/large"
    if damage == "removed":
        s3.ask("DELETE", place)
    else:
        s3.ask("PUT", place, LARGE[:-9] if damage == "truncated" else b"x" + LARGE[1:])
    store = ArtifactStore(machine(tmp_path / "two", address))
    with pytest.raises(AlteredArtifact, match="the file large is not what was written") as altered:
        store.blob(found, "large")
    assert (altered.value.key, altered.value.file) == (PROMISE.key, "large")
    assert store.discard_altered(PROMISE.key)
    assert store.find(PROMISE.key) is None
    assert not store.discard_altered(PROMISE.key)
    assert committed(store) == found
    assert store.blob(found, "large").tobytes() == LARGE
    assert not store.discard_altered(PROMISE.key)


def test_a_damaged_copy_on_this_machine_is_fetched_anew(s3: Server, tmp_path: Path) -> None:
    storage = machine(tmp_path / "one", s3.address(f"{s3.bucket()}/runs"))
    found = committed(ArtifactStore(storage))
    store = ArtifactStore(storage)
    store.path(found, "large").write_bytes(b"damaged")
    assert store.blob(found, "large").tobytes() == LARGE


def test_a_bucket_that_is_not_there_is_told_at_once(s3: Server, tmp_path: Path) -> None:
    storage = machine(tmp_path, s3.address("no-such-bucket/runs"), seconds=1e6)
    storage.path("file").write_text("content")
    with pytest.raises(StorageError, match="refuses .*credentials in the environment"):
        storage.publish("file")


def test_a_checkpoint_that_is_written_as_a_stage_is_broken_off_is_kept(s3: Server, tmp_path: Path) -> None:
    address = s3.address(f"{s3.bucket()}/runs")
    here, there = machine(tmp_path / "here", address), machine(tmp_path / "there", address)
    state = TrainingState(step=9)
    state.put("model.", {"weight": torch.ones(3)})

    def stopped() -> None:
        with carried_checkpoint(here, "k.partial"):
            save(here.path("k.partial"), state)
            raise Stopped("told to go")

    with pytest.raises(Stopped):
        stopped()
    with carried_checkpoint(there, "k.partial"):
        found = load(there.path("k.partial"))
    assert found is not None
    assert found.step == 9


class Dies(RuntimeError):
    """The machine, in the middle of a stage."""


def test_a_stage_goes_on_from_the_checkpoint_of_a_lost_machine(s3: Server, tmp_path: Path) -> None:
    address = s3.address(f"{s3.bucket()}/runs")
    lost = machine(tmp_path / "lost", address)
    arrived = threading.Event()
    steps: list[int] = []

    def dies(found: StageEvent) -> None:
        if found.stage == "finetune" and found.step == 30:
            arrived.wait(30)
            raise Dies

    def publishes(name: str, last: str = "") -> None:
        MirroredStorage.publish(artifacts, name, last)
        if name.endswith("checkpoint.safetensors"):
            arrived.set()

    search = search_of(tiny_experiment())
    run = executor(lost, progress=dies, checkpoint_every_s=0.0)
    artifacts = run.store._artifacts
    artifacts.publish = publishes  # type: ignore[method-assign]
    with pytest.raises(Dies):
        run.run(search.prepare())
    other = machine(tmp_path / "other", address)
    heard = executor(other, Told(), lambda found: steps.append(found.step or 0) if found.stage == "finetune" else None)
    ready = heard.run(search.prepare())
    assert 1 < min(step for step in steps if step) <= 31
    undisturbed = executor(tmp_path / "undisturbed").run(search.prepare())
    assert weights_of(heard.store, ready.finetuned) == weights_of(
        ArtifactStore(tmp_path / "undisturbed"), undisturbed.finetuned
    )
    assert other.names(f"artifacts/{ready.finetuned.key}.partial") == []
