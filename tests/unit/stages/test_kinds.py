"""What is known of a kind of stage by its name."""

import subprocess
import sys

import pytest
from raydisc_outside.stage import TokenCounts

from raydisc.errors import InputError
from raydisc.stages.kinds import KINDS, STAGES, Kind, kind_named


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_class_that_can_be_computed_and_named(name: str) -> None:
    stage = STAGES.get(name)
    assert stage.kind == name
    assert not stage.__abstractmethods__


def test_a_kind_that_is_not_known_belongs_to_the_search() -> None:
    assert kind_named("of a later version").searched
    assert not kind_named("evaluate").searched


def test_the_kind_of_another_package_is_what_its_class_says() -> None:
    assert TokenCounts.about == Kind(searched=False)
    assert kind_named("token_counts").searched, "of a package that is not installed here"
    with STAGES.registering(TokenCounts):
        assert kind_named("token_counts") is TokenCounts.about
        with pytest.raises(InputError, match="name 'evaluate' of another kind of stage"):
            STAGES.register(type("Other", (TokenCounts,), {"kind": "evaluate"}))


def test_reports_read_a_ledger_without_torch() -> None:
    words = "import sys, raydisc.report.compare, raydisc.report.show; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"
