"""The tables of the ledger: their columns, and the columns that identify one thing."""

from __future__ import annotations

import pyarrow as pa

_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
_TEXTS, _REALS, _WHOLES = pa.list_(pa.string()), pa.list_(pa.float64()), pa.list_(pa.int64())

STOPPED_EARLY = "stopped early"
"""The state of a trial that a rule has stopped."""

WRITTEN_AT = "written_at"
"""The column that the ledger adds to every row: when it was written, UTC, ISO 8601."""

_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    # One row for each time a stage was computed. FLOPs are executed ones, padding included.
    "stages": {
        "key": _TEXT, "kind": _TEXT, "run": _TEXT, "trial": _TEXT, "state": _TEXT, "inputs": _TEXTS,
        "flops": _REAL, "device_seconds": _REAL, "wall_seconds": _REAL, "cpu_seconds": _REAL,
        "settings": _TEXT, "seed": _WHOLE, "message": _TEXT, "finished_at": _TEXT,
        # Of teacher outputs: memory, disk or online; bytes; the hidden states' type and its relative error.
        "kept": _TEXT, "kept_bytes": _WHOLE, "kept_dtype": _TEXT, "kept_error": _REAL,
        # What computed it: versions, the instructions of the CPU that torch uses, the device's name. Null: not known.
        "torch": _TEXT, "transformers": _TEXT, "cpu_capability": _TEXT, "device": _TEXT,
    },
    # Every evaluation: of a model (scale null) or of one candidate of a supernet.
    "metrics": {
        "key": _TEXT, "kind": _TEXT, "split": _TEXT, "step": _WHOLE, "scale": _REAL, "metric": _TEXT,
        "value": _REAL, "se": _REAL,
    },
    # The candidates of a once-for-all stage, with the metric that the choice is made by.
    "candidates": {
        "key": _TEXT, "scale": _REAL, "measured_scale": _REAL, "flops_share": _REAL, "parameters": _WHOLE,
        "flops": _REAL, "heads": _WHOLES, "neurons": _WHOLES, "metric": _REAL, "metric_se": _REAL,
        # What the metric is divided by before it enters the tradeoff.
        "reference": _REAL,
    },
    # One row per example: logits, one number in regression, the mean loss of a language task, a token task's counts.
    "predictions": {
        "key": _TEXT, "split": _TEXT, "scale": _REAL, "row": _WHOLE, "prediction": pa.list_(pa.float32()),
        "label": _REAL,
    },
    # One row per trial: a schedule with one set of choices.
    "trials": {
        "run": _TEXT, "trial": _TEXT, "task": _TEXT, "metric": _TEXT, "schedule": _TEXT, "path": _REALS,
        "student_scale": _REAL, "student_parameters": _WHOLE, "lam": _REAL, "initialisation": _TEXT,
        "seed": _WHOLE, "student": _TEXT, "supernet": _TEXT, "test": _TEXT, "state": _TEXT,
        "validation_metric": _REAL, "stages": _TEXTS, "reused": _TEXTS, "message": _TEXT,
        # Null where the run has one teacher.
        "teacher_seed": _WHOLE,
        # The schedule with the options by which it differs from others of its name; null in rows of earlier versions.
        "label": _TEXT,
        # Where arms share a budget by successive halving: the arm, its rung of how many, and the budget.
        "arm": _TEXT, "rung": _WHOLE, "rungs": _WHOLE, "budget_flops": _REAL,
    },
}  # fmt: skip

SCHEMAS: dict[str, pa.Schema] = {
    table: pa.schema([*columns.items(), (WRITTEN_AT, _TEXT)]) for table, columns in _COLUMNS.items()
}
"""Table name → Arrow schema."""

IDENTITY: dict[str, tuple[str, ...]] = {
    "stages": ("key",),
    "metrics": ("key", "split", "step", "scale", "metric"),
    "candidates": ("key", "scale"),
    "predictions": ("key", "split", "scale", "row"),
    "trials": ("run", "trial"),
}
"""Table name → the columns that name one thing; of several rows for it the last finished one counts."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "stages": ("key", "kind", "state", WRITTEN_AT),
    "metrics": ("key", "split", "metric", WRITTEN_AT),
    "candidates": ("key", "scale", WRITTEN_AT),
    "predictions": ("key", "split", "row", "prediction", WRITTEN_AT),
    "trials": ("run", "trial", "state", WRITTEN_AT),
}
"""Table name → the columns that every row has a value in."""
