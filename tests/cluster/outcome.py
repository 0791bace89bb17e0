"""What a run has found, comparable bit for bit; times, placement and what was computed twice are left out."""

import hashlib
from pathlib import Path
from typing import Any

from raydisc.report.compare import compare
from raydisc.report.ledger import Ledger
from raydisc.report.show import show
from raydisc.stages.store import ArtifactStore

_NOT_FOUND = {"device_seconds", "wall_seconds", "stages_reused", "written_at"}
"""Of a row: when and where it came about."""


def outcome(storage: Path, run: str = "tiny") -> dict[str, Any]:
    """Ranking, choices, metrics, costs in FLOPs, predictions, weights and students of a finished run.

    Args:
        storage: the folder of the storage.
        run: the run's name.
    """
    ledger = Ledger(storage / "ledger")
    shown = show(ledger, run)
    keys = [stage["key"] for stage in shown["stages"]]
    return {
        "comparison": _plain(compare(ledger, [run])),
        **{part: _plain(shown[part]) for part in ("candidates", "subnets", "break_points")},
        "trials": sorted(_plain(shown["trials"]), key=lambda trial: trial["trial"]),
        "teacher": shown["teacher"],
        "stages": {
            stage["key"]: {name: stage[name] for name in ("kind", "state", "seed", "scale", "flops", "inputs")}
            for stage in shown["stages"]
        },
        "metrics": sorted(map(repr, _plain(ledger.rows("metrics", keys=keys)))),
        "heads and neurons": sorted(map(repr, _plain(ledger.rows("candidates", keys=keys)))),
        "predictions": _predictions(ledger, keys),
        "files": {key: _blobs(storage, key) for key in keys},
        "students": {
            str(path.relative_to(storage)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((storage / run / "students").rglob("*"))
            if path.is_file()
        },
    }


def refuse_other_outcome(storage: Path, undisturbed: Path) -> None:
    """See that a disturbed run has found what an undisturbed one has, and finished no stage twice."""
    stages = Ledger(storage / "ledger").read("stages", latest=False, state="finished")
    assert list(stages["kind"][stages["key"].duplicated()]) == []
    found, wanted = outcome(storage), outcome(undisturbed)
    assert found.keys() == wanted.keys()
    for part in wanted:
        assert found[part] == wanted[part], part


def _blobs(storage: Path, key: str) -> dict[str, str]:
    """SHA-256 of each file of a stage's artifact by name."""
    artifact = ArtifactStore(storage).find(key)
    assert artifact is not None
    return dict(artifact.blobs)


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in _NOT_FOUND} for row in rows]


def _predictions(ledger: Ledger, keys: list[str]) -> dict[str, str]:
    """SHA-256 of the predictions of every model that was evaluated, by stage, split and scale."""
    found = ledger.read("predictions", keys=keys).sort_values("row")
    return {
        str(model): hashlib.sha256(b"".join(row.tobytes() for row in rows["prediction"])).hexdigest()
        for model, rows in found.groupby(["key", "split", "scale"], dropna=False)
    }
