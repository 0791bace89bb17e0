"""What all benchmarks share: options, an experiment's prepared stages, results as Parquet and as a table."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from machine import check_threads, choose_device

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.config.sections import TrainingConfig
from raydisc.errors import InputError
from raydisc.models.precision import Arithmetic, Precision
from raydisc.report.table import Sheet, print_sheets
from raydisc.runs.machine import bound_threads, refuse_without
from raydisc.schedules.search import Ready, Search
from raydisc.stages.artifact import Artifact
from raydisc.stages.executor import Executor, StageEvent
from raydisc.stages.files import read_split
from raydisc.stages.problem import Subject, inspect, student_scales
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.tasks.base import load_task
from raydisc.tasks.reviews import word_tokenizer
from raydisc.tasks.tokenised import Split
from raydisc.training.execution import Execution

PREPARED = ("tokenise", "finetune", "teacher_outputs", "importance")
"""Kinds of the stages that every schedule starts from."""

EXPERIMENTS = Path(__file__).resolve().parents[1]

Row = dict[str, Any]
"""A line of a result: column → value."""

Tick = Callable[[int], None]
"""Told how many steps a running stage has done."""

Section = TypeVar("Section", bound=TrainingConfig)


class Parser(argparse.ArgumentParser):
    """Options that every benchmark has.

    Args:
        name: The name of the benchmark and of its results.
        about: A description of what it measures.
        examples: Commands, one on each line.
    """

    def __init__(self, name: str, about: str, examples: str) -> None:
        """Add the common options."""
        super().__init__(
            prog=f"{name}.py",
            description=about,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[],
                          help="override a setting of the experiment file; may be repeated")  # fmt: skip
        for split in ("train", "validation", "test"):
            self.add_argument(f"--{split}", metavar="PARQUET", help=f"{split} rows: short for --set task.{split}=...")
        self.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                          help="where to compute; auto takes a GPU where there is one")  # fmt: skip
        self.add_argument("--threads", type=int, default=1, help="CPU threads of one process (default 1)")
        self.add_argument("--storage", type=Path, help="keep artifacts in this folder (default: a temporary one)")
        self.add_argument("--output", type=Path, default=Path("runs/benchmarks"),
                          help=f"folder of {name}.parquet (default runs/benchmarks)")  # fmt: skip
        self.add_argument("--json", action="store_true", help="print the rows as JSON instead of a table")

    def add_experiment(self) -> None:
        """Add the experiment file that a benchmark of one experiment reads."""
        self.add_argument("experiment", nargs="?", type=Path,
                          help="experiment file (default: the quickstart's embedded reviews; with --train that of "
                          "sst2_cpu.yaml)")  # fmt: skip


def run(main: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark's main; bad input ends it with one sentence and exit code 2.

    Ray's workers find the modules beside it by ``PYTHONPATH``, as raydisc keeps a script's folder off their path.
    """
    transformers.logging.set_verbosity_error()  # its reports on checkpoints do not belong to the results
    transformers.logging.disable_progress_bar()
    here, before = str(Path(__file__).parent), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, before] if before else [here])
    try:
        main(arguments)
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


def read_experiment(options: argparse.Namespace) -> Experiment:
    """Return the experiment that the options stand for.

    Raises:
        InputError: The experiment cannot work.
    """
    default = EXPERIMENTS / ("quickstart.yaml" if options.train is None else "sst2_cpu.yaml")
    return load_experiment(options.experiment or default, overrides_of(options)).with_absolute_paths()


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Return the overrides of the options, including the files of the task."""
    named = {split: getattr(options, split) for split in ("train", "validation", "test")}
    return [*options.overrides, *(f"task.{split}={json.dumps(path)}" for split, path in named.items() if path)]


@contextmanager
def storage_of(options: argparse.Namespace) -> Iterator[Path]:
    """Provide the folder of artifacts; a temporary one is removed at the end of the context."""
    if options.storage is not None:
        yield options.storage.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="raydisc-benchmark-") as folder:
        yield Path(folder)


def untrained(experiment: Experiment) -> Experiment:
    """Return the experiment with a teacher of one step, for benchmarks that do not look at metrics."""
    if experiment.teacher.finetune is None:
        return experiment
    finetune = experiment.teacher.finetune.model_copy(update={"epochs": 1e-9})
    return experiment.model_copy(update={"teacher": experiment.teacher.model_copy(update={"finetune": finetune})})


def of_rows(experiment: Experiment, rows: int) -> Experiment:
    """Return the experiment with at most this number of training rows."""
    rows = min(rows, experiment.task.train_rows or rows)
    return experiment.model_copy(update={"task": experiment.task.model_copy(update={"train_rows": rows})})


def of_length(experiment: Experiment, length: int, folder: Path) -> Experiment:
    """Return the experiment with rows of exactly this length: each row's text continues with those of the next rows.

    Args:
        experiment: Any experiment.
        length: The number of tokens of a row.
        folder: The folder for the longer texts and, if necessary, the tokenizer.
    """
    task, teacher = load_task(experiment.task), experiment.teacher
    files = {}
    for name, table in task.splits.items():
        if name == "unlabelled":
            continue
        texts = joined(table.column("text_0").to_pylist(), length)
        files[name] = str(folder / f"{name}.parquet")
        pq.write_table(pa.table({"text": texts, "label": table.column("label")}), files[name])
    if teacher.model is None and teacher.tokenizer is None:
        word_tokenizer().save_pretrained(folder / "tokenizer")
        teacher = teacher.model_copy(update={"tokenizer": str(folder / "tokenizer")})
    changed = experiment.task.model_copy(
        update={
            "reviews": None, "glue": None, "train_rows": None, "classes": None, **files,
            "text": ["text"], "label": "label", "metric": task.metric, "max_length": length,
        }
    )  # fmt: skip
    return experiment.model_copy(update={"task": changed, "teacher": teacher})


def joined(texts: Sequence[str], words: int) -> list[str]:
    """Return each text followed by the next ones (the first follows the last) up to this number of words."""
    counts = [max(1, len(text.split())) for text in texts]
    found = []
    for first in range(len(texts)):
        parts, have, at = [], 0, first
        while have < words:
            parts.append(texts[at])
            have += counts[at]
            at = (at + 1) % len(texts)
        found.append(" ".join(parts))
    return found


def with_steps(section: Section, rows: int, steps: int) -> Section:
    """Return a training section with exactly these steps over a split of these rows, without evaluations on the way."""
    epochs = steps / math.ceil(rows / section.batch_size)
    return section.model_copy(update={"epochs": epochs, **({"patience": None} if hasattr(section, "patience") else {})})


@dataclass(frozen=True)
class Bench:
    """An experiment with its storage, on a device.

    Attributes:
        experiment: The resolved experiment.
        subject: Its task and teacher.
        storage: The storage of artifacts.
        device: The device to compute on.
        threads: The number of threads of the CPU.
        precision: The precision of the models' matrix multiplications.
        hot: The artifact store to read from, instead of the files of the storage.
    """

    experiment: Experiment
    subject: Subject
    storage: Path
    device: torch.device
    threads: int
    precision: Precision = "float32"
    hot: ArtifactStore | None = None

    @staticmethod
    def of(options: argparse.Namespace, experiment: Experiment, storage: Path) -> Bench:
        """Return the bench that the options stand for, and set torch's threads.

        Raises:
            InputError: There is no such device, there are more threads than cores, or the experiment cannot work.
        """
        bound_threads(check_threads(options.threads))
        return Bench(experiment, inspect(experiment), storage, choose_device(options.device), options.threads)

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifacts."""
        return self.hot or ArtifactStore(self.storage)

    @property
    def student_scale(self) -> float:
        """The first of the student's scales."""
        return student_scales(self.experiment, self.subject)[0]

    def executor(self, tick: Tick | None = None) -> Executor:
        """Return an executor for stages in this process that never writes a checkpoint and reports every step."""

        def progress(found: StageEvent) -> None:
            if tick is not None and found.step is not None:
                tick(found.step)

        never = 1e9
        arithmetic = Arithmetic(self.threads if self.device.type == "cpu" else None, self.precision)
        worker = Worker(self.store, self.device, Execution(self.precision, checkpoint_every_s=never))
        return Executor(self.store, worker, arithmetic, progress, lambda *_: None)

    def search(self, seed: int = 0, **sections: Any) -> Search:
        """Return the search for the student, with some sections of the experiment replaced."""
        one = self.experiment.with_one_teacher(self.experiment.teachers[0])
        experiment = one.model_copy(update=sections)
        return Search(experiment, self.subject, self.student_scale, seed)

    @cached_property
    def ready(self) -> Ready:
        """Return the preparation of every schedule, computed once in the storage."""
        return self.executor().run(self.search().prepare())

    @cached_property
    def outputs(self) -> Artifact:
        """The teacher's outputs on all training rows, computed once in the storage."""
        found = self.executor().run(self.search().outputs_of(self.ready, self.ready.teacher))
        assert found is not None, "benchmarks keep them"
        return found

    def split(self, name: str) -> Split:
        """Return a tokenised split."""
        return read_split(self.store, self.ready.data, name)

    def computing_in(self, precision: Precision) -> Bench:
        """Return the same bench in another precision.

        Raises:
            InputError: The device would have to emulate it.
        """
        refuse_without(precision, self.device)
        return replace(self, precision=precision)

    def of_experiment(self, experiment: Experiment) -> Bench:
        """Return the same bench for an experiment with the same task and teacher."""
        return replace(self, experiment=experiment)

    def linked(self, storage: Path, kinds: Sequence[str], *others: Artifact) -> Bench:
        """Provide the same bench on a fresh storage with links to the prepared stages of these kinds and to others."""
        ready = self.ready
        prepared = [ready.data, ready.finetuned, ready.importance]
        prepared += [self.outputs] if "teacher_outputs" in kinds else []
        (storage / "artifacts").mkdir(parents=True, exist_ok=True)
        for artifact in (*(found for found in prepared if found.kind in kinds), *others):
            (storage / "artifacts" / artifact.key).symlink_to(self.store.root / artifact.key)
        return replace(self, storage=storage)


def finish(name: str, rows: Sequence[Row], sheets: Sequence[Sheet], options: argparse.Namespace) -> Path:
    """Write the rows as Parquet and show them; gives the file.

    Args:
        name: The name of the benchmark.
        rows: The rows, all with the same columns.
        sheets: The tables that are printed.
        options: The options of the command.
    """
    options.output.mkdir(parents=True, exist_ok=True)
    path: Path = options.output / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    if options.json:
        print(json.dumps(list(rows), indent=1))
    else:
        print_sheets(sheets, sys.stdout)
        print(f"rows: {path}")
    return path
