"""Clusters that have no machine for a trial until their autoscaler starts one."""

from collections.abc import Iterator

import pytest
from desk import Desk
from head import Client, running_head

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

WORKER = {"resources": {"CPU": 1, "object_store_memory": 200 * 2**20}, "node_config": {}, "max_workers": 2}


@pytest.fixture
def user(desk: Desk) -> Iterator[Client]:
    with running_head({"worker": {**WORKER, "min_workers": 0}}) as head:
        yield Client(desk.folder, {**head.access, "RAY_ADDRESS": "auto"})


def test_a_run_waits_for_machines_that_are_started_for_it(user: Client) -> None:
    words = ["run", "tiny.yaml", "--set", "schedules=[kd]"]
    said = user.run(*words, code=2)
    assert "has 0; where an autoscaler would start more, set resources.wait_minutes" in said
    said = user.run(
        *words, "--name", "large", "--set", "resources.cpus=9", "--set", "resources.wait_minutes=0.1", code=2
    )
    assert "waiting up to 0.1 minutes for the cluster to grow: resources.cpus: a trial asks for 9" in said
    assert "within 0.1 minutes no more came (resources.wait_minutes)" in said
    user.run(*words, "--set", "resources.wait_minutes=3")
