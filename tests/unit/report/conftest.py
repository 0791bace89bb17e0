from __future__ import annotations

from pathlib import Path

import pytest
from ledger_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty ledger to be filled."""
    return World(tmp_path)


@pytest.fixture
def filled(world: World) -> World:
    """One seed of everything."""
    world.base()
    world.fill()
    return world
