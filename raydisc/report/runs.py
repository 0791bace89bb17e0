"""The runs of a storage: what each has noted in ``STORAGE/NAME/run.json``, and what the ledger knows."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from raydisc.errors import InputError
from raydisc.report.ledger import PART_NAME, Ledger, now
from raydisc.report.schema import WRITTEN_AT
from raydisc.storage.address import storage_at
from raydisc.storage.folder import Storage

RUN_FILE = "run.json"

State = Literal["running", "finished", "failed", "interrupted", "stopped: budget"]


@dataclass(frozen=True)
class RunState:
    """The note that a driver makes about its run when it starts and when it ends.

    Attributes:
        task: Name of the task.
        state: The state of the run.
        trials: The number of all trials.
        wall_seconds: The seconds that all its drivers have run.
        when: Time of the note, UTC, ISO 8601.
        host: The machine of the driver.
        pid: The driver's process there, so that the run of a killed driver is not taken for running.
        proposals: Whether a source in Python proposes its trials, so that its experiment alone does not say which.
        trial_scheduler: The class of the scheduler in Python that stops its trials early; None without one.
    """

    task: str
    state: State
    trials: int
    wall_seconds: float = 0.0
    when: str = field(default_factory=now)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    proposals: bool = False
    trial_scheduler: str | None = None

    def write(self, run: Storage | Path) -> None:
        """Write the note into the run's folder, atomically."""
        place = storage_at(run)
        folder = place.folder
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{RUN_FILE}.{os.getpid()}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / RUN_FILE)
        place.publish(RUN_FILE)

    @property
    def standing(self) -> State:
        """The state, corrected where the driver died without noting its end."""
        if self.state == "running" and self.host == socket.gethostname() and not _alive(self.pid):
            return "interrupted"
        return self.state


_STATE = TypeAdapter(RunState)


def read_state(run: Storage | Path) -> RunState | None:
    """Return the note of the run in this folder, or None if there is no such note.

    Raises:
        InputError: The note cannot be read.
    """
    place = storage_at(run)
    told = place.read(RUN_FILE)
    try:
        return None if told is None else _STATE.validate_json(told)
    except ValidationError as error:
        raise InputError(
            f"'{place / RUN_FILE}' is not what a run writes; remove it, then `raydisc resume` the run"
        ) from error


def known_runs(ledger: Ledger) -> list[str]:
    """Return the sorted names of the runs that have a folder in the storage or rows in the ledger."""
    storage = ledger.files.parent
    noted = {name for name in storage.folders() if storage.has(f"{name}/{RUN_FILE}")}
    named = noted.union(*(ledger.read(table)["run"].dropna() for table in ("trials", "stages")))
    return sorted(name for name in named if PART_NAME.fullmatch(name))  # not a path to a folder elsewhere


def list_runs(storage: Storage | Path) -> list[dict[str, Any]]:
    """Return what ``raydisc ls`` lists, the latest run first: ``name, task, state, finished, failed, trials, when``.

    ``trials`` is the number of all trials and ``state`` the state of the run (``running``, ``finished``, ``failed``,
    ``interrupted``, ``stopped: budget``); both are None for a run that has left rows in the ledger but no folder.
    """
    storage = storage_at(storage)
    ledger = Ledger(storage / "ledger")
    trials: dict[str, list[dict[str, Any]]] = {}
    for trial in ledger.rows("trials"):
        trials.setdefault(trial["run"], []).append(trial)
    listed = [_listed(name, read_state(storage / name), trials.get(name, [])) for name in known_runs(ledger)]
    return sorted(listed, key=lambda run: run["when"], reverse=True)


def _listed(name: str, state: RunState | None, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    states = Counter(trial["state"] for trial in trials)
    times = [trial[WRITTEN_AT] for trial in trials]
    return {
        "name": name,
        "task": state.task if state else next((trial["task"] for trial in trials), None),
        "state": state.standing if state else None,
        "finished": states["finished"],
        "failed": states["failed"],
        "trials": state.trials if state else None,
        "when": max([*times, state.when] if state else times, default=""),
    }


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
