"""The rows that a run writes into the ledger."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from raydisc.models.precision import Arithmetic
from raydisc.report.ledger import Ledger, now
from raydisc.report.schema import STOPPED_EARLY
from raydisc.schedules.base import Trial
from raydisc.schedules.rungs import Rung
from raydisc.schedules.steps import Outcome
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.facts import CandidatesFacts, EvaluatedFacts, ModelFacts, OutputsFacts, PlatformFacts
from raydisc.stages.files import read_table
from raydisc.stages.kinds import kind_named
from raydisc.stages.problem import Subject
from raydisc.stages.store import ArtifactStore


class Recorder:
    """Writes one job's stages and its end.

    Args:
        ledger: The ledger of the storage.
        store: The artifacts.
        run: The run's name.
        job: The job's name.
        arithmetic: The arithmetic of the stages that it computes.
        metric: The name of the task's metric.
    """

    def __init__(
        self, ledger: Ledger, store: ArtifactStore, run: str, job: str, arithmetic: Arithmetic, metric: str
    ) -> None:
        """Start with no stage asked for."""
        self._arithmetic = asdict(arithmetic)
        self._ledger, self._store, self._run, self._job, self._metric = ledger, store, run, job, metric
        self.asked: list[str] = []
        self.reused: list[str] = []

    def stage(self, request: Stage, artifact: Artifact, found: bool) -> None:
        """Note that a stage was asked for, and write its results if it was computed now.

        The ledger of a storage whose artifacts were copied in lacks their rows: they are written as well.
        """
        computed_here = artifact.key in self.asked and artifact.key not in self.reused
        self.asked.append(artifact.key)
        if not found:
            self.reused = [key for key in self.reused if key != artifact.key]  # one that was altered
            self._write(request, artifact)
            return
        if computed_here:
            return
        self.reused.append(artifact.key)
        if not self._ledger.has("stages", artifact.key):
            with self._store.holding(artifact.key):  # whoever computed it may be writing just now
                if not self._ledger.has("stages", artifact.key):
                    self._write(request, artifact)

    def _write(self, request: Stage, artifact: Artifact) -> None:
        self._write_predictions(artifact)
        self._ledger.write("metrics", _metric_rows(artifact, self._metric), artifact.key)
        self._ledger.write("candidates", candidate_rows(artifact), artifact.key)
        self._ledger.write("stages", [self._stage_row(request, artifact)], artifact.key)

    def failed_stage(self, key: str, kind: str, message: str, seconds: float) -> None:
        """Write that a stage has failed, with the seconds that it took, which count as spent."""
        row = self._broken_off(key, kind, "failed", message, seconds, seconds, 0.0)
        self._ledger.write("stages", [row], f"failed-{key}")

    def stopped_stage(
        self, key: str, kind: str, message: str, device_seconds: float, wall_seconds: float, flops: float
    ) -> None:
        """Write that a stage was asked to stop, with what it took, which counts until it is finished.

        Args:
            key: The key of the stage.
            kind: Its kind.
            message: Where it was stopped.
            device_seconds: The seconds of this try, times devices.
            wall_seconds: The seconds of this try.
            flops: The FLOPs of all tries.
        """
        before = self._ledger.rows("stages", keys=[key], latest=False, state="stopped")
        flops = max(0.0, flops - sum(row["flops"] or 0.0 for row in before))
        row = self._broken_off(key, kind, "stopped", message, device_seconds, wall_seconds, flops)
        self._ledger.write("stages", [row], f"stopped-{key}")

    def trial(self, trial: Trial, subject: Subject, outcome: Outcome, test: Artifact | None = None) -> None:
        """Write that a trial is finished, or finished and tested, which it stays."""
        if test is None and self._is_tested(trial, outcome):
            return
        student = ModelFacts.of(outcome.student)
        row = {
            "path": list(outcome.path), "student_parameters": student.parameters,
            "initialisation": outcome.initialisation, "student": outcome.student.key,
            "supernet": outcome.supernet.key if outcome.supernet else None, "state": "finished",
            "validation_metric": student.evaluations[-1].metric, "test": test.key if test else None,
        }  # fmt: skip
        self._write_trial(trial, subject, row)

    def failed_trial(self, trial: Trial, subject: Subject, message: str) -> None:
        """Write that a trial has failed."""
        self._write_trial(trial, subject, {"state": "failed", "message": message})

    def stopped_trial(self, trial: Trial, subject: Subject, metric: float | None, message: str) -> None:
        """Write that a trial was stopped early, which it stays.

        Args:
            trial: The trial.
            subject: Its task and its teacher.
            metric: The validation metric of its last evaluation, if there was one.
            message: Where it was stopped.
        """
        row = {"state": STOPPED_EARLY, "message": message, "validation_metric": metric}
        self._write_trial(trial, subject, row)

    def stopped_before(self, trial: Trial) -> Mapping[str, Any] | None:
        """Return the row of a trial that was stopped early, or None where it was not."""
        rows = self._rows_of(trial)
        return rows[0] if rows and rows[0]["state"] == STOPPED_EARLY else None

    def _write_trial(self, trial: Trial, subject: Subject, row: Mapping[str, Any]) -> None:
        whole: dict[str, Any] = {
            "run": self._run, "trial": trial.name, "task": subject.task_name, "metric": subject.metric,
            "schedule": trial.schedule.name, "label": trial.schedule.label, "path": list(trial.path),
            "student_scale": trial.student_scale, "lam": trial.schedule.lam, "teacher_seed": trial.teacher_seed,
            "seed": trial.seed, "message": "",
            "stages": list(dict.fromkeys(self.asked)), "reused": list(dict.fromkeys(self.reused)),
            **_standing(trial.rung), **row,
        }  # fmt: skip
        self._ledger.write("trials", [whole], f"{self._run}.{trial.name}")

    def _rows_of(self, trial: Trial) -> list[dict[str, Any]]:
        if not self._ledger.has("trials", f"{self._run}.{trial.name}"):
            return []
        return self._ledger.rows("trials", run=self._run, trial=trial.name)

    def _is_tested(self, trial: Trial, outcome: Outcome) -> bool:
        """Whether the trial's last row has a test of this student: the same row is never written again."""
        rows = self._rows_of(trial)
        return any(row["test"] is not None and row["student"] == outcome.student.key for row in rows)

    def _broken_off(
        self,
        key: str,
        kind: str,
        state: str,
        message: str,
        device_seconds: float,
        wall_seconds: float,
        flops: float,
    ) -> dict[str, Any]:
        return {
            "key": key, "kind": kind, "run": self._run, "trial": self._job, "state": state, "inputs": [],
            "flops": flops, "device_seconds": device_seconds, "wall_seconds": wall_seconds, "cpu_seconds": 0.0,
            "settings": "{}", "message": message, "finished_at": now(),
        }  # fmt: skip

    def _stage_row(self, request: Stage, artifact: Artifact) -> dict[str, Any]:
        settings = {**request.settings(), "arithmetic": self._arithmetic}
        return {
            "key": artifact.key, "kind": artifact.kind, "run": self._run, "trial": self._job, "state": "finished",
            "inputs": list(artifact.inputs), "flops": artifact.cost.flops,
            "device_seconds": artifact.cost.device_seconds, "wall_seconds": artifact.cost.wall_seconds,
            "cpu_seconds": artifact.cost.cpu_seconds, "settings": json.dumps(settings, sort_keys=True),
            "seed": getattr(request, "seed", None), "message": "", "finished_at": now(), **_kept(artifact),
            **asdict(PlatformFacts.of(artifact).platform),
        }  # fmt: skip

    def _write_predictions(self, artifact: Artifact) -> None:
        if "predictions.arrow" not in artifact.blobs:
            return
        table = read_table(self._store, artifact, "predictions.arrow")
        frame = table.to_pandas()
        for (split, scale), rows in frame.groupby(["split", "scale"], dropna=False, sort=False):
            predictions = np.stack(rows["prediction"].to_numpy())
            nominal = None if np.isnan(scale) else float(scale)
            part = artifact.key if nominal is None else f"{artifact.key}-{nominal:g}"
            self._ledger.write_predictions(artifact.key, split, nominal, predictions, rows["label"].to_numpy(), part)


def _standing(rung: Rung | None) -> dict[str, Any]:
    """Return the columns on the place of a trial on a ladder; empty where there is none."""
    if rung is None:
        return {}
    return {"arm": rung.arm, "rung": rung.number, "rungs": len(rung.places), "budget_flops": rung.budget}


def _metric_rows(artifact: Artifact, metric: str) -> list[dict[str, Any]]:
    return [
        {
            "key": artifact.key, "kind": artifact.kind, "split": found.split, "step": found.step,
            "scale": found.scale, "metric": metric, "value": found.metric, "se": found.se,
        }
        for found in EvaluatedFacts.of(artifact).evaluations
    ]  # fmt: skip


def candidate_rows(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the rows of the ledger for the candidates of a once-for-all stage, if there are any."""
    return [
        {
            "key": artifact.key, "metric_se": found.se, "scale": found.scale, "measured_scale": found.measured_scale,
            "flops_share": found.flops_share, "parameters": found.parameters, "flops": found.flops,
            "metric": found.metric, "reference": found.reference, "heads": found.heads, "neurons": found.neurons,
        }
        for found in CandidatesFacts.of(artifact).candidates
    ]  # fmt: skip


def _kept(artifact: Artifact) -> dict[str, Any]:
    """Return the columns on how outputs are kept; empty for other stages."""
    if not kind_named(artifact.kind).keeps_outputs:
        return {}
    facts = OutputsFacts.of(artifact)
    return {
        "kept": facts.source, "kept_bytes": facts.bytes, "kept_dtype": facts.dtype, "kept_error": facts.error,
    }  # fmt: skip
