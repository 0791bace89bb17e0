"""A run that is killed at random, in part and in whole, many times over, finds what an undisturbed one finds.

`pytest tests/cluster/test_soak.py -s --kills 200` takes it further; `--seed` makes the same choices again.
"""

import random
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from desk import LASTING, Desk, make_desk
from head import Client
from nodes import Nodes, running_nodes
from outcome import refuse_other_outcome
from surviving import COPIES, TRIAL, kill, named, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(6 * 3600)]

VICTIMS = {"trial": 3, "owner of hot copies": 2, "driver": 2, "node": 2, "cluster": 1}
"""How often each is killed, beside the others."""


class Soak:
    """A run on a cluster of a head and a node, and what is done to it.

    Args:
        desk: where the run is.
        chance: chooses victims and times.
        kills: how many.
    """

    def __init__(self, desk: Desk, chance: random.Random, kills: int) -> None:
        self._desk, self._chance, self._kills = desk, chance, kills
        self._begun = time.monotonic()
        self._cluster = ExitStack()
        self._nodes: Nodes | None = None
        self._node: psutil.Process | None = None
        self.killed: Counter[str] = Counter()
        self.drivers: Counter[int] = Counter()

    def run(self) -> None:
        """Have drivers go on with the run until one of them ends it, or there is nothing left to kill."""
        with self._cluster:
            code = None
            while code != 0:
                self._prepare_cluster()
                code = self._drive()
                self.drivers[code] += 1

    def _prepare_cluster(self) -> None:
        if self._nodes is None:
            self._nodes = self._cluster.enter_context(running_nodes(head_cpus=1))
        if self._node is None:
            self._node = self._nodes.add()

    def _drive(self) -> int:
        """One driver; gives its exit code."""
        assert self._nodes is not None
        driver = Client(self._desk.folder, self._nodes.access).start("run", "tiny.yaml", "--plain")
        lost = False
        while not lost and self._goes_on(driver):
            victim = self._kill_one(driver)
            lost = victim == "cluster"
            if self._node is None and not lost:
                self._node = self._nodes.add()  # late
        _, said = driver.communicate(timeout=600)
        if lost:
            self._cluster.close()
            self._nodes = self._node = None
        self._check_end(driver.returncode, said, lost)
        return driver.returncode

    def _goes_on(self, driver: "subprocess.Popen[str]") -> bool:
        """Wait for the next time to kill; False where the driver has ended or is to end in peace."""
        if sum(self.killed.values()) >= self._kills:
            return False
        if self._chance.random() < 0.8:  # else it may still be starting
            wait_for(lambda: driver.poll() is not None or self._victims(driver)["trial"])
        time.sleep(self._chance.uniform(0, 8))
        return driver.poll() is None

    def _victims(self, driver: "subprocess.Popen[str]") -> dict[str, list[psutil.Process]]:
        assert self._nodes is not None
        processes = self._nodes.processes()
        return {
            "trial": named(processes, TRIAL),
            "owner of hot copies": named(processes, COPIES),
            "driver": [psutil.Process(driver.pid)],
            "node": [self._node] if self._node else [],
            "cluster": [self._nodes.head],
        }

    def _kill_one(self, driver: "subprocess.Popen[str]") -> str:
        assert self._nodes is not None
        there = {name: found for name, found in self._victims(driver).items() if found}
        name = self._chance.choices(list(there), [VICTIMS[name] for name in there])[0]
        self.killed[name] += 1
        print(f"{time.monotonic() - self._begun:7.1f} s: {name}", flush=True)
        if name == "cluster":
            self._nodes.kill()
        elif name == "node":
            self._nodes.lose(there[name][0])
            self._node = None
        else:
            kill([self._chance.choice(there[name])])
        return name

    def _check_end(self, code: int, said: str, lost: bool) -> None:
        """A driver ends by itself only as it should."""
        assert "Traceback" not in said, said
        if code == 1 and not lost:  # a trial's process was killed more often than is forgiven
            failures = [line for line in said.splitlines() if line.startswith("raydisc: ")]
            assert failures, said
            assert all("its process died" in line for line in failures), said
        else:
            assert code in ((0, 1, 2, 3) if lost else (0, -9)), f"{code}: {said}"


def test_runs_that_are_killed_at_random_find_the_same(
    undisturbed: Desk, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--seed", None)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"\nseed: {seed}")
    chance, kills, runs = random.Random(seed), request.config.getoption("--kills", 30), 0
    killed: Counter[str] = Counter()
    drivers: Counter[int] = Counter()
    begun = time.monotonic()
    while sum(killed.values()) < kills:
        desk = make_desk(tmp_path / f"run-{runs}", LASTING)
        soak = Soak(desk, chance, kills - sum(killed.values()))
        soak.run()
        refuse_other_outcome(desk.folder / "runs", undisturbed.folder / "runs")
        killed, drivers, runs = killed + soak.killed, drivers + soak.drivers, runs + 1
    print(f"{sum(killed.values())} kills in {time.monotonic() - begun:.0f} s, {runs} runs: {dict(killed)}")
    print(f"drivers by exit code: {dict(drivers)}")
