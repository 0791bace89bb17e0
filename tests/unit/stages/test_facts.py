"""Facts are records that are read of artifacts, and are on disk what they were before there were records."""

import json
from pathlib import Path

import pytest

from raydisc.stages.artifact import Artifact, Cost, NotYetKnown
from raydisc.stages.facts import EvaluatedFacts, ImportanceFacts, ModelFacts, OutputsFacts, Score
from raydisc.stages.store import MANIFEST, AlteredArtifact, ArtifactStore


def of_kind(kind: str, facts: dict[str, object]) -> Artifact:
    return Artifact("k" * 64, kind, facts=facts)


def test_what_is_written_is_what_is_read() -> None:
    facts = ModelFacts(7, [Score(3, "validation", 0.5, 0.1), Score(None, "validation", 0.75, 0.1)])
    written = facts.to_json()
    assert written["evaluations"][1] == {"step": None, "split": "validation", "metric": 0.75, "se": 0.1}
    assert ModelFacts.of(of_kind("distil", {**written, "steps": 3})) == facts
    assert EvaluatedFacts.of(of_kind("distil", written)).last.metric == 0.75


def test_optional_facts_are_left_out_and_those_of_earlier_versions_are_taken_to_be_what_they_were() -> None:
    assert OutputsFacts(5, [0, 3], "disk").to_json() == {"bytes": 5, "positions": [0, 3], "source": "disk"}
    before = ImportanceFacts.of(of_kind("importance", {"parameters": 5, "method": "gradient", "reference": 1.0}))
    assert before.allocation == "global"
    assert EvaluatedFacts.of(of_kind("tokenise", {})).evaluations == []


def test_a_promise_has_no_facts_yet_and_other_facts_are_refused() -> None:
    with pytest.raises(NotYetKnown):
        ModelFacts.of(Artifact("k" * 64, "distil"))
    with pytest.raises(ValueError, match=r"artifact distil k+ does not have the facts of its kind: .*parameters"):
        ModelFacts.of(of_kind("distil", {"parameters": "many", "evaluations": []}))


FACTS: dict[str, dict[str, object]] = {
    "finetune": {"parameters": 7, "evaluations": []},
    "importance": {"parameters": 7, "method": "gradient", "reference": 1.0},
    "teacher_outputs": {"bytes": 5, "positions": [0]},
    "distil": {"scale": 0.5, "measured_scale": 0.5, "parameters": 7, "steps": 3, "evaluations": []},
    "once_for_all": {
        "candidates": [], "evaluations": [], "steps": 3, "planned_steps": 3, "chosen_at": None, "outputs_flops": 0.0,
    },
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, facts in FACTS.items() for name in facts])
def test_a_manifest_without_a_fact_of_its_kind_is_altered(tmp_path: Path, kind: str, name: str) -> None:
    key, store = "k" * 64, ArtifactStore(tmp_path)
    store.commit(Artifact(key, kind), {**FACTS[kind], "more": "of a later version"}, Cost(), {})
    assert store.find(key) is not None
    path = tmp_path / "artifacts" / key / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["facts"][name]
    path.write_text(json.dumps(manifest))
    with pytest.raises(AlteredArtifact, match=f"artifact {key}: manifest.json is not what was written; remove the"):
        store.find(key)
    assert store.discard_altered(key)
    assert store.find(key) is None


def test_an_evaluation_that_is_not_a_number_makes_a_manifest_altered(tmp_path: Path) -> None:
    store, evaluation = ArtifactStore(tmp_path), {"step": None, "split": "test", "metric": "good", "se": 0.1}
    store.commit(Artifact("k" * 64, "evaluate"), {"evaluations": [evaluation]}, Cost(), {})
    with pytest.raises(AlteredArtifact):
        store.find("k" * 64)


def test_facts_of_a_kind_of_others_are_left_to_them(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.commit(Artifact("k" * 64, "of_others"), {"evaluations": "good"}, Cost(), {})
    assert store.find("k" * 64) is not None
