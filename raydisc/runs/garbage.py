"""What of a storage no run needs any more: found, listed, and removed if that is wanted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from raydisc.report.costs import StageGraph
from raydisc.report.ledger import Ledger
from raydisc.report.runs import RUN_FILE, read_state
from raydisc.stages.kinds import kind_named
from raydisc.stages.store import MANIFEST
from raydisc.storage.folder import Held, Storage

Why = Literal["no run refers to it", "left by a stage that died", "kept outputs of finished runs", "Tune's state"]

_ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class Litter:
    """A folder that may go.

    Attributes:
        name: of it, in the storage.
        why: it may.
        size: bytes.
        lock: whoever uses the folder holds this name.
    """

    name: str
    why: Why
    size: int
    lock: str


def find_litter(storage: Storage, outputs: bool = False) -> list[Litter]:
    """Folders that may go, the largest first; nothing that a driver or a stage holds just now.

    A run is one that has its folder: what only removed ones used may go. Of artifacts nothing may while a run is under
    way, which may have found one of which its ledger does not tell yet; checkpoints stay while a run has to go on.

    Args:
        storage: the storage.
        outputs: also the kept outputs of teachers and assistants where every run that uses them has finished.
    """
    found = [litter for litter in _candidates(storage, outputs) if _is_free(storage, litter.lock)]
    return sorted(found, key=lambda litter: -litter.size)


def remove(storage: Storage, litter: Litter) -> bool:
    """Remove a folder, unless somebody has begun to use it meanwhile; whether it is gone.

    An artifact's manifest goes first, so that nobody finds half of one.
    """
    try:
        with storage.holding(litter.lock, wait=False):
            storage.remove(f"{litter.name}/{MANIFEST}")
            storage.remove(litter.name)
    except Held:
        return False
    return True


def _candidates(storage: Storage, outputs: bool) -> Iterator[Litter]:
    runs = [name for name in storage.folders() if storage.has(f"{name}/{RUN_FILE}")]
    finished = {name for name in runs if (state := read_state(storage / name)) and state.state == "finished"}
    if all(_is_free(storage, f"{name}/.lock") for name in runs):
        yield from _artifacts(storage, set(runs), finished, outputs)
    folders = (storage / _ARTIFACTS).folders()
    for name in folders:
        key = name.removesuffix(".partial")
        if name.startswith(".writing-"):
            yield _litter(storage, name, "left by a stage that died", name.split("-")[1])
        elif key != name and (finished == set(runs) or key in folders):
            yield _litter(storage, name, "left by a stage that died", key)
    for name in runs:
        if "tune" in (storage / name).folders():
            yield Litter(f"{name}/tune", "Tune's state", storage.bytes_under(f"{name}/tune"), f"{name}/.lock")


def _artifacts(storage: Storage, runs: set[str], finished: set[str], outputs: bool) -> Iterator[Litter]:
    ledger = Ledger(storage / "ledger")
    stages, trials = ledger.rows("stages"), ledger.rows("trials")
    needed, unfinished = (_referred(stages, trials, names) for names in (runs, runs - finished))
    spare = {row["key"] for row in stages if kind_named(row["kind"]).keeps_outputs} - unfinished if outputs else set()
    for key in (storage / _ARTIFACTS).folders():
        if key.startswith(".") or key.endswith(".partial"):
            continue
        if key not in needed:
            yield _litter(storage, key, "no run refers to it", key)
        elif key in spare:
            yield _litter(storage, key, "kept outputs of finished runs", key)


def _referred(stages: Iterable[Mapping[str, Any]], trials: Iterable[Mapping[str, Any]], runs: set[str]) -> set[str]:
    """Keys of all that these runs computed, asked for or depend on."""
    stages = list(stages)
    keys = [row["key"] for row in stages if row["run"] in runs]
    for trial in trials:
        if trial["run"] in runs:
            keys += [*(trial["stages"] or ()), *(key for key in (trial["student"], trial["test"]) if key)]
    return StageGraph(stages).closure(keys) | set(keys)


def _litter(storage: Storage, name: str, why: Why, key: str) -> Litter:
    return Litter(f"{_ARTIFACTS}/{name}", why, storage.bytes_under(f"{_ARTIFACTS}/{name}"), f"locks/{key}")


def _is_free(storage: Storage, lock: str) -> bool:
    try:
        with storage.holding(lock, wait=False):
            return True
    except Held:
        return False
