"""Peak memory of one trial, run alone in a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import Bench, with_steps
from machine import forget_peak, resident_bytes

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.runs.machine import bound_threads
from raydisc.schedules.base import Trial
from raydisc.schedules.trials import expand, steps_of
from raydisc.stages.problem import inspect

KEPT = ("tokenise", "finetune")
"""Stages that are not part of a search: they are read, not computed again."""


def peak_of_trial(
    experiment: Experiment, storage: Path, label: str, scale: float, path: Sequence[float], steps: int
) -> float:
    """Return the peak memory of the search of one trial beyond its imports, in bytes; on a GPU what is allocated there.

    Memory does not depend on how long a stage trains, so each trains a few steps only.

    Args:
        experiment: The experiment of the run to which the trial belongs.
        storage: The storage that holds its teacher.
        label: The label of the trial's schedule.
        scale: The scale of the student.
        path: The scales of the assistants, if the schedule is given any.
        steps: The number of training steps of each stage.

    Raises:
        InputError: There is no such trial, or the process died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, experiment, storage, label, scale, tuple(path), steps))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError as error:
        raise InputError(f"the process that measured the memory of {label} died") from error
    finally:
        process.join()


def _child(
    sender: Any,
    experiment: Experiment,
    storage: Path,
    label: str,
    scale: float,
    path: tuple[float, ...],
    steps: int,
) -> None:
    gpu = bool(experiment.resources.gpus)
    threads = experiment.resources.cpus
    bound_threads(threads)
    subject = inspect(experiment)
    whole = Bench(experiment, subject, storage, torch.device("cuda" if gpu else "cpu"), threads)
    rows = len(whole.split("train"))
    short = {name: with_steps(getattr(experiment, name), rows, steps) for name in ("once_for_all", "distillation")}
    with tempfile.TemporaryDirectory() as folder:
        bench = whole.linked(Path(folder), KEPT)
        changed = experiment.model_copy(update=short)
        trial = find_trial(expand(changed, [scale]), label, path)
        forget_peak()
        before = resident_bytes()
        bench.executor().run(steps_of(trial, changed, subject))
    sender.send(torch.cuda.max_memory_allocated() if gpu else resident_bytes(peak=True) - before)


def find_trial(trials: Sequence[Trial], label: str, path: Sequence[float]) -> Trial:
    """Return the first trial of the schedule with a label, with this path if the schedule is given one.

    Raises:
        InputError: There is no such trial.
    """
    for trial in trials:
        if trial.schedule.label == label and trial.path in ((), tuple(path)):
            return trial
    raise InputError(f"there is no trial of {label} along {list(path)}")
