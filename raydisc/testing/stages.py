"""The contract of a stage, as tests.

Derive from ``StageContract`` in a test module and define the fixture ``example``: a stage whose inputs lie in a
storage, together with its artifact there. ``computed`` makes the artifact::

    class TestMyStage(StageContract):
        @pytest.fixture
        def example(self, tmp_path):
            stage = MyStage(...)
            return Example(stage, computed(stage, tmp_path / "storage"), tmp_path / "storage")

That plans have the FLOPs of runs is a part of ``raydisc.testing.schedules.ScheduleContract``.
"""

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.executor import Executor, OnEvent, StageEvent
from raydisc.stages.kinds import STAGES
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.testing.runs import ONE_THREAD
from raydisc.training.execution import Execution


class Killed(BaseException):
    """The end of a process in the middle of a stage."""


@dataclass(frozen=True)
class Example:
    """A stage that was computed.

    Attributes:
        stage: The stage.
        artifact: Its artifact.
        storage: The folder that holds the artifact and those that the stage is made from.
    """

    stage: Stage
    artifact: Artifact
    storage: Path


def computed(stage: Stage, storage: Path, progress: OnEvent = lambda event: None, every_s: float = 60.0) -> Artifact:
    """Compute a stage in this process, on one thread, unless the storage has it.

    Args:
        stage: The stage.
        storage: The folder of artifacts.
        progress: Takes the events of the running stage.
        every_s: Seconds between checkpoints.
    """
    store = ArtifactStore(storage)
    worker = Worker(store, torch.device("cpu"), Execution(checkpoint_every_s=every_s))
    return Executor(store, worker, ONE_THREAD, progress, lambda *_: None).execute(stage)


class StageContract:
    """The promises of every stage to the store, to resumed runs and to the ledger."""

    @pytest.fixture
    def example(self) -> Example:
        """Return a stage that was computed."""
        raise pytest.UsageError("define the fixture 'example' in the class that derives from StageContract")

    @pytest.fixture
    def inputs(self, example: Example, tmp_path: Path) -> Path:
        """Return a copy of the storage that has everything but the artifact of the stage."""
        copy = tmp_path / "inputs"
        shutil.copytree(example.storage, copy)
        shutil.rmtree(copy / "artifacts" / example.artifact.key)
        return copy

    def test_its_kind_is_registered(self, example: Example) -> None:
        """The kind in the ledger leads to the class."""
        assert STAGES.get(example.stage.kind) is type(example.stage)
        assert example.artifact.kind == example.stage.kind
        assert example.stage.label()

    def test_the_promise_names_the_artifact(self, example: Example) -> None:
        """The key is known before anything is computed, also after a journey to another process."""
        for stage in (example.stage, pickle.loads(pickle.dumps(example.stage))):
            promise = stage.promise(ONE_THREAD)
            assert (promise.key, promise.kind) == (example.artifact.key, example.artifact.kind)
            assert stage.key(ONE_THREAD) == example.artifact.key
            assert {artifact.key for artifact in stage.inputs()} == set(example.artifact.inputs)

    def test_its_facts_come_back_from_the_store(self, example: Example) -> None:
        """The manifest is read as it was written."""
        found = ArtifactStore(example.storage).find(example.artifact.key)
        assert found == example.artifact
        assert found.facts == example.artifact.facts

    def test_it_is_not_computed_twice(self, example: Example) -> None:
        """A finished stage is found by its key."""
        seen: list[StageEvent] = []
        assert computed(example.stage, example.storage, seen.append) == example.artifact
        assert seen == []

    def test_the_same_key_gives_the_same_bits(self, example: Example, inputs: Path) -> None:
        """Computed again from the same inputs, files, facts and FLOPs are the same."""
        assert_same(computed(example.stage, inputs), example.artifact)

    def test_a_stage_that_was_killed_goes_on(self, example: Example, inputs: Path) -> None:
        """Killed at any report of its progress and computed again, it leaves what it would have left."""
        reports: list[StageEvent] = []
        whole = shutil.copytree(inputs, inputs.parent / "whole")
        computed(example.stage, whole, reports.append, every_s=0.0)
        for last in sorted({1, len(reports) // 2, len(reports) - 1} & set(range(1, len(reports)))):
            place = shutil.copytree(inputs, inputs.parent / f"killed-{last}")
            left = last

            def kill(event: StageEvent) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed

            with pytest.raises(Killed):
                computed(example.stage, place, kill, every_s=0.0)
            assert ArtifactStore(place).find(example.artifact.key) is None
            assert_same(computed(example.stage, place), example.artifact)
            assert not list((place / "artifacts").glob("*.partial"))


def assert_same(found: Artifact, expected: Artifact) -> None:
    """Check that two artifacts are the same but for the seconds that they took."""
    assert (found.key, found.inputs, found.blobs) == (expected.key, expected.inputs, expected.blobs)
    assert found.facts == expected.facts
    assert found.cost.flops == expected.cost.flops
