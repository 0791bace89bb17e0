"""Runs on hosts with networks of their own: of which one is cut off, for good or for a moment."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import LASTING, Desk, make_desk
from hosts import Hosts, refusal, running_hosts
from outcome import refuse_other_outcome
from surviving import TRIAL, Watched, named

from raydisc.report.ledger import Ledger

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.skipif(bool(refusal()), reason=str(refusal()))]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with running_hosts() as hosts:
        yield hosts


def started(hosts: Hosts, undisturbed: Desk, folder: Path) -> Watched:
    user = hosts.user(make_desk(folder, LASTING).folder)
    stages = Ledger(undisturbed.folder / "runs" / "ledger").rows("stages")
    return Watched(folder / "runs", stages, user.start("run", "tiny.yaml"))


def test_a_host_is_cut_off_for_good_and_another_goes_on(hosts: Hosts, undisturbed: Desk, tmp_path: Path) -> None:
    """What still runs there holds the stage until it notices and leaves, long before Ray ends it."""
    first = hosts.add()
    run = started(hosts, undisturbed, tmp_path / "desk")
    step = run.reaches("once_for_all", 20)
    [trial] = named(hosts.processes(), TRIAL)
    raylet = trial.parent()
    assert raylet is not None
    hosts.pull(first)
    hosts.add()
    run.wait(lambda: not trial.is_running())
    assert raylet.is_running()
    run.goes_on("once_for_all", step)
    run.ends()
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")


def test_a_cable_that_is_out_for_a_moment_costs_nothing(hosts: Hosts, undisturbed: Desk, tmp_path: Path) -> None:
    first = hosts.add()
    run = started(hosts, undisturbed, tmp_path / "desk")
    step = run.reaches("finetune", 40)
    trials = named(hosts.processes(), TRIAL)
    hosts.pull(first)
    time.sleep(3)
    hosts.plug(first)
    run.goes_on("finetune", step)
    assert set(named(hosts.processes(), TRIAL)) == set(trials)
    run.ends()
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")
