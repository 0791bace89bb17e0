"""What of a storage no run needs any more: found, listed, and removed if that is wanted."""

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raydisc.report.costs import StageGraph
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RUN_FILE, read_state
from raydisc.stages.store import MANIFEST

Why = Literal["no run refers to it", "left by a stage that died", "kept outputs of finished runs", "Tune's state"]

_OUTPUTS = "teacher_outputs"


@dataclass(frozen=True)
class Litter:
    """A folder that may go.

    Attributes:
        path: of it.
        why: it may.
        size: bytes.
        lock: whoever uses the folder holds this file.
    """

    path: Path
    why: Why
    size: int
    lock: Path


def find_litter(storage: Path, outputs: bool = False) -> list[Litter]:
    """Folders that may go, the largest first; nothing that a driver or a stage holds just now.

    A run is one that has its folder: what only removed ones used may go. Of artifacts nothing may while a run is under
    way, which may have found one of which its ledger does not tell yet; checkpoints stay while a run has to go on.

    Args:
        storage: the storage folder.
        outputs: also the kept outputs of teachers and assistants where every run that uses them has finished.
    """
    found = [litter for litter in _candidates(storage, outputs) if _is_free(litter.lock)]
    return sorted(found, key=lambda litter: -litter.size)


def remove(litter: Litter) -> bool:
    """Remove a folder, unless somebody has begun to use it meanwhile; whether it is gone.

    An artifact is renamed before it is removed, so that nobody finds half of one.
    """
    with _held(litter.lock) as free:
        if not free:
            return False
        doomed = litter.path.with_name(f".writing-{litter.path.name}-removed")
        litter.path.rename(doomed)
        shutil.rmtree(doomed)
    return True


def _candidates(storage: Path, outputs: bool) -> Iterator[Litter]:
    runs = {path.parent.name: path.parent for path in storage.glob(f"*/{RUN_FILE}")}
    finished = {name for name, folder in runs.items() if (state := read_state(folder)) and state.state == "finished"}
    if all(_is_free(folder / ".lock") for folder in runs.values()):
        yield from _artifacts(storage, set(runs), finished, outputs)
    locks = storage / "locks"
    for path in (storage / "artifacts").glob(".writing-*"):
        yield _litter(path, "left by a stage that died", locks / path.name.split("-")[1])
    for path in (storage / "artifacts").glob("*.partial"):
        key = path.name.removesuffix(".partial")
        if finished == set(runs) or path.with_name(key).is_dir():
            yield _litter(path, "left by a stage that died", locks / key)
    for folder in runs.values():
        if (folder / "tune").is_dir():
            yield _litter(folder / "tune", "Tune's state", folder / ".lock")


def _artifacts(storage: Path, runs: set[str], finished: set[str], outputs: bool) -> Iterator[Litter]:
    ledger = Ledger(storage / "ledger")
    stages, trials = ledger.rows("stages"), ledger.rows("trials")
    needed, unfinished = (_referred(stages, trials, names) for names in (runs, runs - finished))
    spare = {row["key"] for row in stages if row["kind"] == _OUTPUTS} - unfinished if outputs else set()
    for path in (storage / "artifacts").glob(f"*/{MANIFEST}"):
        key = path.parent.name
        if key.startswith("."):
            continue
        if key not in needed:
            yield _litter(path.parent, "no run refers to it", storage / "locks" / key)
        elif key in spare:
            yield _litter(path.parent, "kept outputs of finished runs", storage / "locks" / key)


def _referred(stages: Iterable[Mapping[str, Any]], trials: Iterable[Mapping[str, Any]], runs: set[str]) -> set[str]:
    """Keys of all that these runs computed, asked for or depend on."""
    stages = list(stages)
    keys = [row["key"] for row in stages if row["run"] in runs]
    for trial in trials:
        if trial["run"] in runs:
            keys += [*(trial["stages"] or ()), *(key for key in (trial["student"], trial["test"]) if key)]
    return StageGraph(stages).closure(keys) | set(keys)


def _litter(path: Path, why: Why, lock: Path) -> Litter:
    return Litter(path, why, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()), lock)


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with _held(lock) as free:
        return free


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold a lock for a moment; whether it was free."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
