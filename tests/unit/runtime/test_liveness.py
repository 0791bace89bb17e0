"""A cluster that does not answer any more is noticed; one that is there is not taken for lost."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from raydisc.runtime.liveness import Listener, knock, watch


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "raylet"))
        listening.listen(16)
        yield listening


def listener_at(listening: socket.socket, patience: float) -> Listener:
    return Listener(partial(knock, listening.getsockname()), patience)


def test_a_listener_is_lost_once_nobody_listened_for_longer_than_patience(raylet: socket.socket) -> None:
    listener = listener_at(raylet, patience=0.3)
    time.sleep(0.4)
    assert not listener.is_lost()
    raylet.close()
    assert not listener.is_lost(), "it may be started again"
    time.sleep(0.4)
    assert listener.is_lost()


def test_the_loss_of_any_listener_is_acted_upon_and_not_after_the_end(raylet: socket.socket, tmp_path: Path) -> None:
    gone, lost = Listener(partial(knock, str(tmp_path / "nobody")), 0.0), threading.Event()

    def act() -> NoReturn:
        lost.set()
        raise SystemExit

    def watched(listeners: list[Listener], left: threading.Event) -> threading.Thread:
        def run() -> None:
            with suppress(SystemExit):
                watch(listeners, left, act, 0.05)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    left = threading.Event()
    thread = watched([listener_at(raylet, 0.0)], left)
    time.sleep(0.5)
    left.set()
    thread.join(10)
    assert not lost.is_set()
    watched([listener_at(raylet, 0.0), gone], threading.Event()).join(10)
    assert lost.is_set()
