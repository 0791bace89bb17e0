"""The stage that computes the outputs of a teacher, or of an assistant, once; and whether they are kept at all.

A student that is trained on outputs that are kept has other bits, and costs other FLOPs, than one whose teacher is run
in every step. So the sizes of the tokenised task and the budgets decide between the two, before a key is made, and
nothing else does: not the room that a disk happens to have. Whether kept ones are read from memory or from the disk
changes no bit; each run decides for itself (``Execution.outputs_in_memory``).
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from raydisc.config.sections import KeptType, TeacherOutputsConfig
from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.models.cost import ForwardCost
from raydisc.models.precision import Precision
from raydisc.signals.cache import OutputsShape, OutputsWriter
from raydisc.signals.inner import inner_sizes
from raydisc.signals.source import BeyondRange, computed_on, write_outputs
from raydisc.signals.top_tokens import Grouping
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.base import Stage, name_of
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import OutputsFacts, TaskFacts
from raydisc.stages.files import read_split, read_structure, read_weights, task_kind_of
from raydisc.stages.kinds import kind_named
from raydisc.stages.models import frozen_model
from raydisc.stages.plan import Outlook, Plan
from raydisc.stages.store import Blob
from raydisc.stages.targets import grouping_of
from raydisc.stages.work import Work, over_split
from raydisc.tasks.batching import EVALUATION_BATCH
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.inference import FlopMeter

_GIB = 2**30


def outputs_shape(
    data: Artifact, positions: tuple[int, ...], config: Config, top_tokens: int, inner: Sequence[str] = ()
) -> OutputsShape:
    """Return the size of a model's outputs on a task's training rows; a language model's name ``top_tokens`` tokens."""
    facts, kind = TaskFacts.of(data), task_kind_of(data)
    sizes = (facts.rows["train"], facts.tokens["train"], len(positions), config.hidden_size)
    within = inner_sizes(inner, config)
    labels = kind.label_total(data.known, "train")
    if kind.over_vocabulary:
        named = grouping_of(data, top_tokens, 1.0).count
        return OutputsShape(*sizes, named + 1, named, num_labels=labels, inner=within)
    return OutputsShape(*sizes, facts.num_labels, num_labels=labels, inner=within)


def kept_in(config: TeacherOutputsConfig, shape: OutputsShape) -> str:
    """Decide whether outputs of a size are kept in ``memory``, on ``disk`` or nowhere (``online``).

    The answer is the same on every machine and at any time. Logits without the hidden states that a loss compares would
    save nothing, as the teacher would be run anyway: they are kept together or not at all.

    Raises:
        InputError: They do not fit where they are to be kept, or a budget would not even hold one batch.
    """
    budgets = {"memory": ("budget_gib", config.budget_gib), "disk": ("disk_budget_gib", config.disk_budget_gib)}
    asked = list(budgets) if config.source == "auto" else [config.source]
    for where in asked:
        if where == "online":
            break
        name, budget = budgets[where]
        if shape.bytes <= budget * _GIB:
            return where
        _refuse_below_one_batch(name, budget, shape)
        if config.source == where:
            raise InputError(
                f"teacher_outputs: {_gib(shape.bytes)} do not fit {name}: {budget:g}; "
                "raise it, or set source: auto to take the first of memory, disk and online that works"
            )
    return "online"


def _refuse_below_one_batch(name: str, budget: float, shape: OutputsShape) -> None:
    batch = shape.bytes * min(1.0, EVALUATION_BATCH / shape.rows)
    if 0 < budget * _GIB < batch:
        raise InputError(
            f"teacher_outputs.{name}: {budget:g} GiB would not hold the outputs of one batch of {EVALUATION_BATCH} "
            f"rows, {_gib(batch)}; all rows take {_gib(shape.bytes)}, and 0 keeps none there"
        )


def _gib(count: float) -> str:
    return f"{count / _GIB:.3g} GiB"


@dataclass(frozen=True)
class TeacherOutputs(Stage):
    """Compute the logits and matched hidden states of the training rows once, of the teacher or of an assistant.

    It is asked for only where outputs are kept (see ``kept_in``); what is trained towards a teacher that is run in
    every step has no such input.

    Attributes:
        data: The tokenised task.
        teacher: The model.
        positions: The positions whose hidden states are kept.
        dtype: The type of hidden states and of other rounded signals; None where there are none.
        top_tokens: The number of likeliest tokens that are kept in a language task.
        inner: The names of the signals from inside the model that are kept.
        temperature: The temperature at which a language model's other tokens are made one class; 1 in other tasks.
    """

    kind: ClassVar[str] = "teacher_outputs"
    version: ClassVar[int] = 3
    data: Artifact
    teacher: Model
    positions: tuple[int, ...]
    dtype: KeptType | None
    top_tokens: int
    inner: tuple[str, ...] = field(default=(), metadata={"since": []})
    temperature: float = field(default=1.0, metadata={"since": 1.0})

    @property
    def of_teacher(self) -> bool:
        """Whether the outputs are the teacher's, not an assistant's."""
        return kind_named(self.teacher.artifact.kind).makes_teacher

    def compute(self, context: Context) -> Result:
        """Compute the outputs and keep them.

        Raises:
            InputError: The storage has no room for them.
        """
        weights = read_weights(context.store, self.teacher)
        shape = outputs_shape(self.data, self.positions, weights.config, self.top_tokens, self.inner)
        folder, rank = context.checkpoint_folder, context.rank
        refuse_without_room(shape, rank.from_leader(room_in(folder, shape)))
        split = read_split(context.store, self.data, "train")
        model = frozen_model(weights, context)
        meter = FlopMeter(ForwardCost.of(model, weights.config), weights.structure)
        dtype, error = _written(self, model, split, meter, shape, context)
        rank.wait()
        blobs = {name: _moved_blob(folder / name) for name in shape.files}
        place = context.execution.reads_outputs_from(shape.bytes)
        rounded = (dtype, error) if self.dtype else (None, None)
        facts = OutputsFacts(shape.bytes, list(self.positions), place, *rounded)
        return Result(facts.to_json(), meter.flops, blobs)

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``."""
        shape = outputs_shape(self.data, self.positions, outlook.config, self.top_tokens, self.inner)
        train = outlook.split(self.data, "train")
        passes = over_split(read_structure(outlook.store, self.teacher), train, way="keep")
        return Plan(
            facts={"bytes": shape.bytes, "positions": list(self.positions)},
            work=Work((passes,)),
            stored=shape.bytes,
            run=partial(run_outputs, positions=self.positions, shape=shape),
        )

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return f"outputs of {name_of(self.teacher)}"


def _written(
    request: TeacherOutputs, model: nn.Module, split: Split, meter: FlopMeter, shape: OutputsShape, context: Context
) -> tuple[str, float]:
    """Write both files; gives the hidden states' type and its error.

    A hidden state that float16 cannot hold has all of them kept in bfloat16, whose range is float32's.
    """
    grouping = grouping_of(request.data, request.top_tokens, request.temperature)
    for dtype in dict.fromkeys((request.dtype or "float16", "bfloat16")):
        folder = context.checkpoint_folder
        with OutputsWriter(folder, shape, dtype, split.lengths, context.rank, split.label_counts) as writer:
            try:
                how = context.one_pass(meter, len(split))
                return dtype, write_outputs(
                    model, split, request.positions, TaskFacts.of(request.data).pad_id, how, writer, grouping
                )
            except BeyondRange:
                continue
    raise InputError(
        "teacher_outputs: a hidden state of the model is infinite or not a number, so nothing can be learned from it; "
        "look at the training rows and at the teacher's weights"
    )


def room_in(folder: Path, shape: OutputsShape) -> int:
    """Return the free bytes of a folder's disk; files that an earlier attempt has left there are written over."""
    folder.mkdir(parents=True, exist_ok=True)
    left = [folder / name for name in shape.files if (folder / name).is_file()]
    return shutil.disk_usage(folder).free + sum(path.stat().st_size for path in left)


def refuse_without_room(shape: OutputsShape, free: int) -> None:
    """Refuse to keep outputs for which a disk lacks room; another source would train other bits under the same key.

    Raises:
        InputError: They do not fit into this number of free bytes.
    """
    if shape.bytes > free:
        raise InputError(
            f"teacher_outputs: {_gib(shape.bytes)} are to be kept, but the storage has {_gib(free)} free; "
            "make room, or set source: online to run the teacher in every step"
        )


def _moved_blob(path: Path) -> Blob:
    """Return a file that lies in the storage already, and is moved."""
    return lambda target: os.replace(path, target)


def run_outputs(
    model: nn.Module, batches: Sequence[Batch], precision: Precision, positions: tuple[int, ...], shape: OutputsShape
) -> None:
    """Compute the outputs of a model on batches without writing them, for the memory and the time that this takes."""
    for batch in batches:
        computed_on(model, batch, positions, precision, shape.signals, torch.float16, Grouping(shape.num_tokens))
