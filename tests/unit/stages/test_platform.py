"""The versions and the processor that computed a stage, in its artifact and in the ledger."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from tiny_runs import executor, search_of, tiny_experiment

from raydisc.report.ledger import Ledger
from raydisc.runs.recorder import Recorder
from raydisc.stages.facts import Platform, PlatformFacts
from raydisc.stages.platform import joined, platform_of
from raydisc.stages.store import MANIFEST, AlteredArtifact, ArtifactStore
from raydisc.testing.runs import ONE_THREAD

HERE = Platform(
    torch.__version__, transformers.__version__, torch.backends.cpu.get_cpu_capability(),
    platform_of(torch.device("cpu")).device,
)  # fmt: skip


def test_a_stage_says_what_computed_it_and_an_earlier_one_nothing(tmp_path: Path) -> None:
    run, search = executor(tmp_path), search_of(tiny_experiment())
    request = next(search.prepare())
    artifact = run.execute(request)
    assert PlatformFacts.of(artifact).platform == HERE
    assert HERE.device
    ledger = Ledger(tmp_path / "ledger")
    Recorder(ledger, run.store, "r", "job", ONE_THREAD, "accuracy").stage(request, artifact, found=False)
    [row] = ledger.rows("stages")
    columns = ("torch", "transformers", "cpu_capability", "device")
    assert Platform(*(row[name] for name in columns)) == HERE
    path = tmp_path / "artifacts" / artifact.key / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["facts"]["platform"]
    path.write_text(json.dumps(manifest))
    found = ArtifactStore(tmp_path).find(artifact.key)
    assert found is not None
    assert PlatformFacts.of(found).platform == Platform()
    manifest["facts"]["platform"] = {"torch": 2}
    path.write_text(json.dumps(manifest))
    with pytest.raises(AlteredArtifact):
        ArtifactStore(tmp_path).find(artifact.key)


def test_workers_that_differ_are_all_named() -> None:
    one, other = Platform("2.6", "4.50", "AVX2", "A"), Platform("2.6", "4.50", "AVX512", "A")
    assert joined([one, other, one]) == Platform("2.6", "4.50", "AVX2 + AVX512", "A")
    assert joined([Platform(), Platform()]) == Platform()
