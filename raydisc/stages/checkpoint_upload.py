"""Checkpoints of running stages in a storage that is not on this machine."""

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raydisc.errors import StorageError
from raydisc.storage.folder import Storage
from raydisc.training.checkpoint import checkpoint_files

_LOOK_EVERY_S = 0.5

_LOG = logging.getLogger(__name__)


@contextmanager
def carried_checkpoint(storage: Storage, folder: str) -> Iterator[None]:
    """Begin with the checkpoint that the storage has, and bring each new one there, beside the computation.

    A checkpoint that cannot be brought there is no reason to end a stage: the next one may.

    Args:
        storage: The storage of the artifacts.
        folder: The folder of the stage's checkpoints in it.
    """
    if storage.everywhere:
        yield
        return
    _fetch(storage, folder)
    carrier, ended, broken_off = _Carrier(storage, folder), threading.Event(), True
    thread = threading.Thread(target=carrier.run, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
        broken_off = False
    finally:
        ended.set()
        thread.join()
        if broken_off:  # with a checkpoint, it may be, that was written because of that
            carrier.bring()


def _fetch(storage: Storage, folder: str) -> None:
    """Fetch the storage's checkpoint: this machine may have an older one, from before the stage was elsewhere."""
    if storage.names(folder):
        shutil.rmtree(storage.path(folder), ignore_errors=True)
        storage.fetch_again(folder)


class _Carrier:
    """Brings new checkpoints to the storage."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder
        self._carried = _signs(storage.path(folder))

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(_LOOK_EVERY_S):
            self.bring()

    def bring(self) -> None:
        """Bring the latest there, unless it is there."""
        signs = _signs(self._storage.path(self._folder))
        if signs == self._carried:
            return
        try:
            _publish(self._storage, self._folder)
            self._carried = signs
        except StorageError as error:
            _LOG.warning("a checkpoint was not kept: %s", error)
        except FileNotFoundError:
            pass  # the next checkpoint has taken the place of this one


def _publish(storage: Storage, folder: str) -> None:
    here = storage.path(folder)
    files = [str(path.relative_to(here)) for path in checkpoint_files(here)]
    for name in files:
        storage.publish(f"{folder}/{name}")
    storage.forget(folder, but=files)


def _signs(folder: Path) -> tuple[int, int] | None:
    """Return what distinguishes one checkpoint from the next; None without one."""
    with suppress(FileNotFoundError, IndexError):
        stat = checkpoint_files(folder)[-1].stat()
        return stat.st_mtime_ns, stat.st_size
    return None
