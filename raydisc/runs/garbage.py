"""Folders of a storage that no run needs any more: found, listed and, if wanted, removed."""

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
    """A folder that may be removed.

    Attributes:
        name: The folder's name in the storage.
        why: The reason why it may be removed.
        size: Its size in bytes.
        lock: The name that users of the folder hold.
    """

    name: str
    why: Why
    size: int
    lock: str


def find_litter(storage: Storage, outputs: bool = False) -> list[Litter]:
    """Return the folders that may be removed, the largest first, without those that a driver or a stage holds.

    A run exists as long as its folder does, so what only removed runs used may go. While a run is under way no artifact
    may go, since the run may have found one that its ledger does not name yet; checkpoints stay while a run is
    unfinished.

    Args:
        storage: The storage to search.
        outputs: Whether to include the kept outputs of teachers and assistants whose runs have all finished.
    """
    found = [litter for litter in _candidates(storage, outputs) if _is_free(storage, litter.lock)]
    return sorted(found, key=lambda litter: -litter.size)


def remove(storage: Storage, litter: Litter) -> bool:
    """Remove a folder unless it has come into use meanwhile, and return whether it was removed.

    An artifact's manifest is removed first, so that no process finds half of an artifact.
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
    """Return the keys of all stages that these runs have computed, asked for or depend on."""
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
