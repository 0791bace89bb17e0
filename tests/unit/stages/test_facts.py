"""Facts are records that are read of artifacts, and are on disk what they were before there were records."""

import pytest

from raydisc.stages.artifact import Artifact, NotYetKnown
from raydisc.stages.facts import EvaluatedFacts, ImportanceFacts, ModelFacts, OutputsFacts, Score


def of_kind(kind: str, facts: dict[str, object]) -> Artifact:
    return Artifact("k" * 64, kind, facts=facts)


def test_what_is_written_is_what_is_read() -> None:
    facts = ModelFacts(7, [Score(3, "validation", 0.5, 0.1), Score(None, "validation", 0.75, 0.1)])
    written = facts.to_json()
    assert written["evaluations"][1] == {"step": None, "split": "validation", "metric": 0.75, "se": 0.1}
    assert ModelFacts.of(of_kind("distil", {**written, "steps": 3})) == facts
    assert EvaluatedFacts.of(of_kind("distil", written)).last.metric == 0.75


def test_optional_facts_are_left_out_and_those_of_earlier_versions_are_taken_to_be_what_they_were() -> None:
    assert OutputsFacts(5, [0, 3], "online").to_json() == {"bytes": 5, "positions": [0, 3], "source": "online"}
    before = ImportanceFacts.of(of_kind("importance", {"parameters": 5, "method": "gradient"}))
    assert (before.allocation, before.reference) == ("global", 1.0)
    assert EvaluatedFacts.of(of_kind("tokenise", {})).evaluations == []


def test_a_promise_has_no_facts_yet_and_other_facts_are_refused() -> None:
    with pytest.raises(NotYetKnown):
        ModelFacts.of(Artifact("k" * 64, "distil"))
    with pytest.raises(ValueError, match=r"artifact distil k+ does not have the facts of its kind: .*parameters"):
        ModelFacts.of(of_kind("distil", {"parameters": "many", "evaluations": []}))
