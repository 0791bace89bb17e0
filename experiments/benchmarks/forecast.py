"""The error of ``raydisc plan`` beside what a run then costs: FLOPs, seconds and peak memory of every stage."""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import Parser, Row, finish, read_experiment, run, storage_of, with_steps
from machine import check_threads

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.forecast.dry_run import Forecaster, Planned, label_of
from raydisc.forecast.footprints import Footprints
from raydisc.forecast.timing import probe, seconds_of
from raydisc.models.precision import Arithmetic
from raydisc.report import formats
from raydisc.report.table import Sheet
from raydisc.runs.machine import bound_threads
from raydisc.schedules.base import Trial
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import expand, steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.executor import Executor, driven
from raydisc.stages.problem import inspect, student_scales
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.training.execution import Execution

NAME = "forecast"

ABOUT = """\
Plans an experiment with a probe, then runs kd, MaxiDisc's path by way of the smallest assistant and minidisc (first
student, first seed) in this process on the CPU, and prints for each stage what was predicted and what was measured.
FLOPs and CPU seconds are those of the whole run; peak memory is private memory in a run of a few steps a stage in a
process of its own, forecast for as many steps."""

EXAMPLES = """\
  python experiments/benchmarks/forecast.py
  python experiments/benchmarks/forecast.py --train DATA/train.parquet --validation ... --test ... \\
    --set task.train_rows=1024 --set student.scale=0.1"""

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Of mallopt: large tensors are mapped one by one and given back when they are freed."""

KERNELS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""How many of the kernels that oneDNN compiles for each shape it keeps: by default up to 31 MiB of a process's own."""

_SAMPLE_EVERY_S = 0.002


@dataclass(frozen=True)
class Ran:
    """A trial that was run: the assistants that it chose, and what its stages left, in the order asked for."""

    trial: Trial
    chose: tuple[float, ...]
    artifacts: tuple[Artifact, ...]


def trials_of(experiment: Experiment) -> list[Trial]:
    """KD, the cheapest path and MiniDisc, to the first student with the first seed."""
    subject = inspect(experiment, weights=False)
    scale, seed = student_scales(experiment, subject)[0], experiment.seeds[0]
    mine = [it for it in expand(experiment, [scale]) if it.seed == seed]
    found = [[it for it in mine if it.schedule.name == name] for name in ("kd", "maxidisc", "minidisc")]
    if not all(found):
        raise InputError("schedules: kd, maxidisc and minidisc are all needed to compare a plan with a run")
    return [trials[-1] for trials in found]


def run_trials(
    experiment: Experiment, trials: Sequence[Trial], storage: Path, around: Callable[[Stage], Any]
) -> list[Ran]:
    """Run trials in this process, each stage inside the context that ``around`` gives."""
    store = ArtifactStore(storage)
    worker = Worker(store, torch.device("cpu"), Execution(checkpoint_every_s=1e9))
    arithmetic = Arithmetic(experiment.resources.cpus)
    executor = Executor(store, worker, arithmetic, lambda state: None, lambda *_: None)
    subject, ran = inspect(experiment), []
    for trial in trials:
        asked: dict[str, Artifact] = {}

        def execute(request: Stage, asked: dict[str, Artifact] = asked) -> Artifact:
            with around(request):
                artifact = executor.execute(request)
            asked[artifact.key] = artifact
            return artifact

        outcome: Outcome = driven(steps_of(trial, experiment, subject), execute)
        ran.append(Ran(trial, outcome.path if trial.schedule.name == "minidisc" else (), tuple(asked.values())))
    return ran


@contextmanager
def quietly(_: Stage) -> Iterator[None]:
    """Nothing around a stage."""
    yield


def beside(forecaster: Forecaster, ran: Ran) -> Iterator[tuple[Planned, Artifact]]:
    """Each stage as it was forecast for what the trial chose, and what it left."""
    forecast = next(way for way in forecaster.forecasts(ran.trial) if way.assistants == ran.chose)
    return zip(forecast.stages, ran.artifacts, strict=False)  # the test comes last, and is not run here


def peaks_of(experiment: Experiment, steps: int) -> list[Row]:
    """Return predicted and measured peak memory of each stage, in a process of its own, over these steps a stage."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, experiment, steps))
    process.start()
    sender.close()
    try:
        rows: list[Row] = receiver.recv()
        return rows
    except EOFError as error:
        raise InputError("the process that measured memory died") from error
    finally:
        process.join()


def _child(sender: Any, experiment: Experiment, steps: int) -> None:
    os.environ[KERNELS_KEPT] = "0"  # read when the first is compiled
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, 2**16)
    libc.mallopt(TRIM_THRESHOLD, 0)
    bound_threads(experiment.resources.cpus)
    short = shortened(experiment, steps)
    trials = trials_of(short)
    with tempfile.TemporaryDirectory() as folder:
        peaks: dict[str, int] = {}
        arithmetic = Arithmetic(short.resources.cpus)

        @contextmanager
        def watched(request: Stage) -> Iterator[None]:
            gc.collect()
            sampler = Sampler()
            with sampler:
                yield
            peaks.setdefault(request.key(arithmetic), sampler.peak)

        everything = run_trials(short, trials, Path(folder) / "runs", watched)
        forecaster = Forecaster(short, inspect(short, weights=False), Path(folder) / "scratch")
        footprints = Footprints(forecaster, "float32")
        rows = {}
        for ran in everything:
            for stage, artifact in beside(forecaster, ran):
                if footprint := footprints.of(stage):
                    # a frozen model's weights are mapped, not private
                    predicted = footprint.peak - (0 if stage.plan.work.trained else footprint.weights)
                    rows[artifact.key] = {
                        "stage": label_of([stage]), "kind": artifact.kind, "peak_bytes_predicted": predicted,
                        "peak_bytes": peaks[artifact.key],
                    }  # fmt: skip
    sender.send(list(rows.values()))


class Sampler:
    """The most private memory of this process beyond what it had when the context was entered."""

    def __enter__(self) -> Sampler:
        """Begin."""
        self._before = self.peak = anonymous_bytes()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; ``peak`` is beyond the beginning."""
        self._ends.set()
        self._thread.join()
        self.peak -= self._before

    def _watch(self) -> None:
        while not self._ends.wait(_SAMPLE_EVERY_S):
            self.peak = max(self.peak, anonymous_bytes())


def anonymous_bytes() -> int:
    """Resident memory of this process that no file lies behind."""
    line = next(it for it in Path("/proc/self/status").read_text().splitlines() if it.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def shortened(experiment: Experiment, steps: int) -> Experiment:
    """Return the experiment with these steps in each training stage, on as many rows as they need."""
    rows = steps * max(experiment.once_for_all.batch_size, experiment.distillation.batch_size)
    task = experiment.task.model_copy(update={"train_rows": min(rows, experiment.task.train_rows or rows)})
    sections = {name: with_steps(getattr(experiment, name), rows, steps) for name in ("once_for_all", "distillation")}
    # each row is wanted once, so that outputs are kept as in the whole run
    sections = {name: section.model_copy(update={"epochs": 1.0}) for name, section in sections.items()}
    teacher = experiment.teacher
    if teacher.finetune is not None:
        teacher = teacher.model_copy(update={"finetune": teacher.finetune.model_copy(update={"epochs": 1.0})})
    return experiment.model_copy(update={"task": task, "teacher": teacher, **sections})


def lines_of(experiment: Experiment, storage: Path) -> list[Row]:
    """FLOPs and CPU seconds of each stage of the whole run, predicted before it and measured."""
    trials = trials_of(experiment)
    threads = experiment.resources.cpus
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.process_time()
        forecaster = Forecaster(experiment, inspect(experiment, weights=False), Path(scratch))
        ways = [forecaster.forecasts(trial) for trial in trials]
        pace = probe(ways, forecaster.outlook, torch.device("cpu"), Execution(), threads)
        print(f"plan and probe: {time.process_time() - begun:.0f} CPU s", file=sys.stderr)
        everything = run_trials(experiment, trials, storage, quietly)
        rows: dict[str, Row] = {}
        for ran in everything:
            for stage, artifact in beside(forecaster, ran):
                rows[artifact.key] = {
                    "stage": label_of([stage]), "kind": artifact.kind, "flops_predicted": stage.artifact.flops,
                    "flops": artifact.cost.flops, "stored_predicted": stage.stored,
                    "stored": sum(file_sizes(storage, artifact)),
                    "seconds_predicted": seconds_of(stage.plan.work, forecaster.outlook, pace),
                    "seconds": artifact.cost.cpu_seconds / threads,
                }  # fmt: skip
    return [row for row in rows.values() if row["flops"]]


def file_sizes(storage: Path, artifact: Artifact) -> Iterator[int]:
    """Bytes of each file of an artifact."""
    store = ArtifactStore(storage)
    return (store.path(artifact, name).stat().st_size for name in artifact.blobs)


def error(predicted: float | None, measured: float | None) -> str:
    """Return a relative error for a table."""
    return formats.DASH if predicted is None or not measured else f"{predicted / measured - 1:+.1%}"


def sheet(experiment: Experiment, lines: Sequence[Row], peaks: Sequence[Row]) -> Sheet:
    """Return the tables that are printed."""
    by_stage = {row["stage"]: row for row in peaks}
    shown = []
    for line in lines:
        peak = by_stage.get(line["stage"], {"peak_bytes_predicted": None, "peak_bytes": None})
        shown.append([
            line["stage"], formats.flops(line["flops"]), error(line["flops_predicted"], line["flops"]),
            f"{line['stored'] / 2**20:.1f}", error(line["stored_predicted"], line["stored"]),
            formats.DASH if peak["peak_bytes"] is None else f"{peak['peak_bytes'] / 2**20:.1f}",
            error(peak["peak_bytes_predicted"], peak["peak_bytes"]),
            formats.seconds(line["seconds"]), error(line["seconds_predicted"], line["seconds"]),
        ])  # fmt: skip
    whole = {name: sum(line[name] for line in lines) for name in lines[0] if isinstance(lines[0][name], int | float)}
    shown.append([
        "all", formats.flops(whole["flops"]), error(whole["flops_predicted"], whole["flops"]),
        f"{whole['stored'] / 2**20:.1f}", error(whole["stored_predicted"], whole["stored"]), formats.DASH, formats.DASH,
        formats.seconds(whole["seconds"]), error(whole["seconds_predicted"], whole["seconds"]),
    ])  # fmt: skip
    columns = ["<stage", "FLOPs", "error", "kept MiB", "error", "peak MiB", "error", "CPU s", "error"]
    notes = ["Error: predicted over measured, less one."]
    return Sheet(f"{experiment.name}: what was predicted, and what a run measured", columns, shown, notes=notes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, run, compare.

    Raises:
        InputError: The options or the experiment cannot work.
    """
    options = parse(arguments)
    bound_threads(check_threads(options.threads))
    experiment = read_experiment(options)
    resources = experiment.resources.model_copy(update={"cpus": options.threads})
    experiment = experiment.model_copy(update={"resources": resources})
    peaks = peaks_of(experiment, options.memory_steps) if options.memory_steps else []
    with storage_of(options) as storage:
        lines = lines_of(experiment, storage)
    by_stage: dict[str, Row] = {row["stage"]: row for row in peaks}
    rows = [{"peak_bytes": None, "peak_bytes_predicted": None} | by_stage.get(it["stage"], {}) | it for it in lines]
    finish(NAME, rows, [sheet(experiment, lines, peaks)], options)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_experiment()
    told = "training steps of each stage while memory is measured; 0 leaves it out (default 20)"
    parser.add_argument("--memory-steps", type=int, default=20, help=told)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(main))
