"""A ledger written as a run would write it, small enough that its right answers are computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raydisc.report.ledger import Ledger

# Costs in FLOPs of the stages of `World.fill`, all seeds alike:
OUTPUTS, IMPORTANCE, SUPERNET, TA_5, TA_3, KD, VIA_5, VIA_3, VIA_SUPERNET = 10, 5, 40, 20, 12, 8, 7, 6, 4


class World:
    """Writes a ledger as a run would."""

    def __init__(self, root: Path, run: str = "r") -> None:
        self.ledger, self.run = Ledger(root / "ledger"), run

    def stage(self, key: str, kind: str, inputs: Sequence[str] = (), flops: float = 0.0, **fields: Any) -> str:
        """A stage whose seconds are a tenth (device) and a hundredth (wall) of its FLOPs."""
        row = {
            "key": key, "kind": kind, "run": self.run, "trial": "t", "state": "finished", "inputs": list(inputs),
            "flops": flops, "device_seconds": flops / 10, "wall_seconds": flops / 100, "cpu_seconds": flops / 5,
            "settings": "{}", "seed": 0, "message": "", "finished_at": f"2026-01-01T00:00:{len(key):02}",
        }  # fmt: skip
        self.ledger.write("stages", [row | fields], key)
        return key

    def predictions(self, key: str, split: str, right: Sequence[int], scale: float | None = None) -> None:
        """Two-class predictions on rows with label 0 that are right where `right` is 1."""
        hits = np.asarray(right)
        part = key if scale is None else f"{key}-{scale:g}"
        labels = np.zeros(len(hits))
        self.ledger.write_predictions(key, split, scale, np.stack([hits, 1 - hits], -1), labels, part)

    def candidate(self, supernet: str, scale: float, metric: float | None, right: Sequence[int] | None = None) -> None:
        row = {
            "key": supernet, "scale": scale, "measured_scale": scale, "flops_share": scale, "parameters": 1000,
            "flops": 100 * scale, "heads": [1], "neurons": [1], "metric": metric, "metric_se": 0.01,
        }  # fmt: skip
        self.ledger.write("candidates", [row], f"{supernet}-{scale:g}")
        self.metric(supernet, "once_for_all", "validation", metric, scale=scale)
        if right is not None:
            self.predictions(supernet, "validation", right, scale)

    def metric(self, key: str, kind: str, split: str, value: float | None, scale: float | None = None) -> None:
        row = {
            "key": key, "kind": kind, "split": split, "step": None, "scale": scale, "metric": "accuracy",
            "value": value, "se": 0.01,
        }  # fmt: skip
        self.ledger.write("metrics", [row], f"{key}-{split}-{scale}")

    def test(self, student: str, right: Sequence[int], flops: float = 1.0) -> str:
        """The reading of the test split: its stage, metric and predictions."""
        key = self.stage(f"test-{student}", "evaluate", ["data", student], flops)
        self.metric(key, "evaluate", "test", float(np.mean(right)))
        self.predictions(key, "test", right)
        return key

    def trial(self, name: str, schedule: str, student: str | None, validation: float | None, **fields: Any) -> None:
        row = {
            "run": self.run, "trial": name, "task": "toy", "metric": "accuracy", "schedule": schedule, "path": [],
            "student_scale": 0.1, "student_parameters": 500, "lam": None, "initialisation": "teacher", "seed": 0,
            "student": student, "supernet": None, "test": None, "state": "finished",
            "validation_metric": validation, "stages": [], "reused": [], "message": "",
        }  # fmt: skip
        self.ledger.write("trials", [row | fields], f"{self.run}.{name}")

    def base(self) -> None:
        """What all schedules share."""
        self.stage("data", "tokenise", ["fingerprint"], 1)
        self.stage("teacher", "finetune", ["data"], 1000)
        self.stage("outputs", "teacher_outputs", ["data", "teacher"], OUTPUTS)
        self.stage("importance", "importance", ["data", "teacher"], IMPORTANCE)

    def fill(self, seed: int = 0, right: dict[str, Sequence[int]] | None = None, teacher: int | None = None) -> None:
        """KD, MaxiDisc over .5 and .3, MiniDisc (which chose .3) and both controls, for one seed and one teacher.

        Test predictions of eight rows each: `kd` 4 right, `via-.5` 6, `via-.3` 7, `minidisc` 5. By validation .3 is
        the better path.
        """
        right = {
            "kd": [1, 1, 1, 1, 0, 0, 0, 0],
            "via-0.5": [1, 1, 1, 1, 1, 1, 0, 0],
            "via-0.3": [1, 1, 1, 1, 1, 1, 1, 0],
            "minidisc": [1, 1, 1, 1, 1, 0, 0, 0],
        } | (right or {})
        base = ["data", "importance", "outputs"]
        s = f"-s{seed}" if teacher is None else f"-t{teacher}-s{seed}"

        def distil(name: str, inputs: Sequence[str], flops: float) -> str:
            return self.stage(name + s, "distil", [*base, *inputs], flops, seed=seed)

        def finish(name: str, schedule: str, validation: float, **fields: Any) -> None:
            student = name + s
            test = self.test(student, right.get(name, right["kd"]))
            self.predictions(student, "validation", [1] * round(validation * 20) + [0] * round(20 - validation * 20))
            fields |= {"seed": seed, "teacher_seed": teacher, "test": test, "stages": [student]}
            self.trial(student, schedule, student, validation, **fields)

        distil("kd", [], KD)
        finish("kd", "kd", 0.5)
        supernet = self.stage("supernet" + s, "once_for_all", base, SUPERNET, seed=seed)
        for scale, hits in ((0.5, 18), (0.3, 17), (0.1, 10)):
            self.candidate(supernet, scale, hits / 20, [1] * hits + [0] * (20 - hits))
        for scale, teaching, learning, validation in ((0.5, TA_5, VIA_5, 0.6), (0.3, TA_3, VIA_3, 0.7)):
            assistant = distil(f"ta-{scale}", [], teaching)
            distil(f"via-{scale}", [assistant], learning)
            finish(f"via-{scale}", "maxidisc", validation, path=[scale], initialisation="assistant")
        used = {"supernet": supernet, "lam": 0.2}
        distil("minidisc", [supernet], VIA_SUPERNET)
        finish("minidisc", "minidisc", 0.65, path=[0.3], initialisation="supernet", **used)
        distil("equal", [], OUTPUTS + SUPERNET)
        finish("equal", "kd_equal_compute", 0.55, lam=0.2)
        distil("init", [supernet], KD)
        finish("init", "kd_from_supernet", 0.6, initialisation="supernet", **used)
