"""Checkpoints of running stages in a storage that is not on this machine."""

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raydisc.distillation.checkpoint import checkpoint_files
from raydisc.errors import StorageError
from raydisc.storage.folder import Storage

_LOOK_EVERY_S = 0.5

_LOG = logging.getLogger(__name__)


@contextmanager
def carried_checkpoint(storage: Storage, folder: str) -> Iterator[None]:
    """Begin with the checkpoint that the storage has, and bring each new one there, beside the computation.

    A checkpoint that cannot be brought there is no reason to end a stage: the next one may.

    Args:
        storage: of the artifacts.
        folder: of the stage's checkpoints in it.
    """
    if storage.everywhere:
        yield
        return
    _fetch(storage, folder)
    ended = threading.Event()
    carrier = threading.Thread(target=_carry, args=(storage, folder, ended), daemon=True)
    carrier.start()
    try:
        yield
    finally:
        ended.set()
        carrier.join()


def _fetch(storage: Storage, folder: str) -> None:
    """The storage's counts: this machine may have an older one, from before the stage was elsewhere."""
    if storage.names(folder):
        shutil.rmtree(storage.path(folder), ignore_errors=True)
        storage.fetch_again(folder)


def _carry(storage: Storage, folder: str, ended: threading.Event) -> None:
    carried = _signs(storage.path(folder))
    while not ended.wait(_LOOK_EVERY_S):
        signs = _signs(storage.path(folder))
        if signs == carried:
            continue
        try:
            _publish(storage, folder)
            carried = signs
        except StorageError as error:
            _LOG.warning("a checkpoint was not kept: %s", error)
        except FileNotFoundError:
            continue  # the next checkpoint has taken the place of this one


def _publish(storage: Storage, folder: str) -> None:
    here = storage.path(folder)
    files = [str(path.relative_to(here)) for path in checkpoint_files(here)]
    for name in files:
        storage.publish(f"{folder}/{name}")
    storage.forget(folder, but=files)


def _signs(folder: Path) -> tuple[int, int] | None:
    """By which one checkpoint differs from the next; none without one."""
    with suppress(FileNotFoundError, IndexError):
        stat = checkpoint_files(folder)[-1].stat()
        return stat.st_mtime_ns, stat.st_size
    return None
