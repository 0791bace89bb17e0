"""Runs of which processes, nodes or the whole cluster are killed find what an undisturbed one finds, bit for bit."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from desk import LASTING, Desk, make_desk
from head import Client
from nodes import Nodes, running_nodes
from outcome import outcome, refuse_other_outcome
from surviving import COPIES, TRIAL, Watched, kill, named

from raydisc.report.ledger import Ledger

pytestmark = pytest.mark.cluster


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path / "desk", LASTING)


def started(desk: Desk, undisturbed: Desk, *words: str, storage: Path | None = None) -> Watched:
    stages = Ledger(undisturbed.folder / "runs" / "ledger").rows("stages")
    return Watched(storage or desk.folder / "runs", stages, desk.start(*words))


def resumed(desk: Desk, undisturbed: Desk, storage: Path) -> Watched:
    """Go on at another desk, which has nothing of the run but the storage."""
    desk.folder.mkdir()
    return started(desk, undisturbed, "resume", "tiny", "--storage", str(storage), storage=storage)


def member(desk: Desk, nodes: Nodes) -> Client:
    """The same desk, of a user whose runs are on the cluster."""
    return Client(desk.folder, nodes.access)


def test_a_trial_and_the_owner_of_hot_copies_are_killed(desk: Desk, undisturbed: Desk) -> None:
    run = started(desk, undisturbed, "run", "tiny.yaml")
    step = run.reaches("finetune", 40)
    kill(run.processes(TRIAL))
    run.goes_on("finetune", step)
    run.reaches("once_for_all", 20)
    owners = run.processes(COPIES)
    assert len(owners) == 1
    kill(owners)
    run.wait(lambda: set(run.processes(COPIES)) - set(owners))
    run.ends()
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")


@pytest.mark.slow
def test_a_node_is_lost_with_the_only_hot_copy_of_the_supernet_and_one_joins_late(
    desk: Desk, undisturbed: Desk
) -> None:
    """The head has no CPU, so that all trials are on the one node, and then on the other."""
    with running_nodes(head_cpus=0) as nodes:
        node = nodes.add()
        run = started(member(desk, nodes), undisturbed, "run", "tiny.yaml")
        run.wait(lambda: named(nodes.processes(), COPIES))
        while not on(node, COPIES):  # Ray chooses the node of an actor without CPUs at random
            owners = named(nodes.processes(), COPIES)
            kill(owners)
            run.wait(lambda owners=owners: set(named(nodes.processes(), COPIES)) - set(owners))  # type: ignore[misc]
        run.wait(lambda: run.has("once_for_all"))
        step = run.reaches("distil", 10, "minidisc")
        [supernet] = run.storage.glob(f"artifacts/{run.key('once_for_all')}/model.safetensors")
        assert shared(on(node, COPIES)) >= supernet.stat().st_size
        assert shared(nodes.head.children()) < supernet.stat().st_size
        nodes.lose(node)
        another = nodes.add()
        run.goes_on("distil", step, "minidisc")
        assert on(another, TRIAL)
        run.ends()
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")


def on(raylet: psutil.Process, name: str) -> list[psutil.Process]:
    """Processes of a node by their name."""
    return named(raylet.children(), name)


def shared(processes: Sequence[psutil.Process]) -> int:
    """Bytes that processes have touched of their node's object store."""
    return sum(area.rss for one in processes for area in one.memory_maps() if "plasma" in area.path)


def test_a_killed_driver_s_run_goes_on_elsewhere_and_is_one_driver_s_alone(
    desk: Desk, undisturbed: Desk, tmp_path: Path
) -> None:
    """The driver alone is killed; what it leaves of Ray is still there when the next one begins."""
    run = started(desk, undisturbed, "run", "tiny.yaml")
    step = run.reaches("finetune", 20)
    run.driver.send_signal(signal.SIGSTOP)  # the run of a quick machine would end meanwhile
    said = desk.run("resume", "tiny", code=2)
    assert said == "raydisc: name: the run 'tiny' is running already; wait, or give a --name\n"
    processes = psutil.Process(run.driver.pid).children(recursive=True)
    run.driver.kill()
    run.driver.communicate()
    again = resumed(Desk(tmp_path / "elsewhere"), undisturbed, run.storage)
    try:
        again.goes_on("finetune", step)
        again.ends()
        # Ray's own agents look less often whether their node is still there
        assert not [it for name in (TRIAL, COPIES) for it in named(processes, name) if it.is_running()]
    finally:
        kill(processes)
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["all of it", "the head's memory"])
def test_a_killed_cluster_s_run_goes_on_on_another(desk: Desk, undisturbed: Desk, tmp_path: Path, lost: str) -> None:
    with running_nodes(head_cpus=1) as nodes:
        run = started(member(desk, nodes), undisturbed, "run", "tiny.yaml")
        step = run.reaches("once_for_all", 20)
        if lost == "all of it":
            nodes.kill()
        else:
            nodes.kill_memory()
        said = run.ends(code=3, seconds=120)
        assert "the Ray cluster does not answer any more; go on with `raydisc resume tiny`" in said
    with running_nodes(head_cpus=1) as nodes:
        again = resumed(Client(tmp_path / "elsewhere", nodes.access), undisturbed, run.storage)
        again.goes_on("once_for_all", step)
        again.ends()
    refuse_other_outcome(run.storage, undisturbed.folder / "runs")


def test_the_run_that_is_compared_with_is_worth_it(undisturbed: Desk) -> None:
    """Its weights were trained, and no two models say the same: what is lost or done twice would show."""
    found = outcome(undisturbed.folder / "runs")
    assert len(set(found["predictions"].values())) == len(found["predictions"]) >= 8
    weights = [path for path in found["students"] if path.endswith("model.safetensors")]
    assert len({found["students"][path] for path in weights}) == len(weights) == 2
    again: Any = outcome(undisturbed.folder / "runs")
    assert again == found
