"""The three pieces of work that a search consists of, at any scale, and what each has to compute and to move."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from common import Bench, Tick, with_steps
from torch import nn
from transformers import PreTrainedModel

from raydisc.config.sections import SandwichConfig
from raydisc.models.build import build, load_frozen
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.widths import Widths
from raydisc.signals.cache import OutputsShape, OutputsWriter
from raydisc.signals.source import write_outputs
from raydisc.stages.artifact import Artifact
from raydisc.stages.distil import Distil
from raydisc.stages.files import read_table, read_weights, task_kind_of
from raydisc.stages.importance import read_candidate
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.targets import positions
from raydisc.tasks.batching import EVALUATION_BATCH, evaluation_batches, training_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.batches import BatchSource
from raydisc.training.inference import Pass

Shape = tuple[int, int]
"""Rows and padded length of a batch."""

_FLOAT, _HALF = 4, 2  # bytes of a weight in training, and of a hidden state that was kept


def run_outputs(bench: Bench, scale: float, batches: int, tick: Tick) -> None:
    """Compute the outputs of the teacher, cut to a scale, on some batches; each is one step.

    The batches are those of the first rows; the longest comes first, as in a search.
    """
    weights = read_weights(bench.store, bench.ready.teacher)
    widths = read_candidate(bench.store, bench.ready.importance, scale).structure
    model = load_frozen(weights.config, widths, widths.cut(weights.state, weights.config)).to(bench.device)
    _, matched = positions(Objective.of(bench.experiment.distillation), len(widths.heads))
    done = 0

    def on_batch(batch: Batch) -> None:
        nonlocal done
        tick(done)  # of those before
        done += 1

    split, data = first_rows(bench, batches * EVALUATION_BATCH), bench.ready.data
    shape = OutputsShape(
        rows=len(split),
        tokens=int(split.lengths.sum()),
        positions=len(matched),
        hidden_size=weights.config.hidden_size,
        num_logits=data["num_labels"],
    )
    dtype = bench.experiment.teacher_outputs.dtype
    with (
        tempfile.TemporaryDirectory(dir=bench.storage) as folder,
        OutputsWriter(Path(folder), shape, dtype, split.lengths) as writer,
    ):
        write_outputs(model, split, matched, data["pad_id"], Pass(EVALUATION_BATCH, on_batch, bench.precision), writer)
    tick(done)


def run_once_for_all(bench: Bench, scale: float, steps: int, tick: Tick, seed: int = 0) -> Artifact:
    """Train the candidate of a scale, and no other, in a supernet as wide as the teacher."""
    rows = len(bench.split("train"))
    only_the_smallest = SandwichConfig(largest=False, middle=0)
    section = with_steps(bench.experiment.once_for_all, rows, steps).model_copy(
        update={"sandwich": only_the_smallest, "choose_at": 1.0}
    )
    request = OnceForAll(
        data=bench.ready.data,
        outputs=bench.outputs,
        importance=bench.ready.importance,
        scales=tuple(sorted({1.0, scale}, reverse=True)),
        config=section,
        objective=Objective.of(bench.experiment.distillation),
        seed=seed,
        lam=None,
    )
    return bench.executor(tick).execute(request)


def run_student(bench: Bench, scale: float, steps: int, tick: Tick, seed: int = 0) -> Artifact:
    """Distil a student of a scale from kept outputs of its teacher (a TA's are kept just as the teacher's are)."""
    ready = bench.ready
    request = Distil(
        data=ready.data,
        importance=ready.importance,
        teacher=ready.teacher,
        outputs=bench.outputs,
        start=ready.teacher,
        scale=scale,
        config=with_steps(bench.experiment.distillation, len(bench.split("train")), steps),
        seed=seed,
    )
    return bench.executor(tick).execute(request)


def training_shapes(bench: Bench, batch_size: int, steps: int, seed: int = 0) -> list[Shape]:
    """Shapes of the batches of the first steps of a stage."""
    source = BatchSource(bench.split("train"), batch_size, seed, bench.ready.data["pad_id"], bench.device)
    return [source.shape(step) for step in range(steps)]


def outputs_shapes(bench: Bench, batches: int) -> list[Shape]:
    """Shapes of the batches of ``run_outputs``."""
    lengths = first_rows(bench, batches * EVALUATION_BATCH).lengths
    return [(len(rows), int(lengths[rows].max())) for rows in evaluation_batches(lengths, EVALUATION_BATCH)]


def first_rows(bench: Bench, count: int) -> Split:
    """Return the first training rows, and the split again from its start if it has fewer."""
    table = read_table(bench.store, bench.ready.data, "train.arrow")
    return Split(table.take(np.arange(count) % table.num_rows), task_kind_of(bench.ready.data))


def padding_share(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Return the share of padding among the computed tokens."""
    computed = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    real = sum(int(lengths[batch].sum()) for batch in batches)
    return 1 - real / computed if computed else 0.0


def padding_shares(bench: Bench, batch_size: int) -> dict[str, float]:
    """Share of padding among the tokens that training and evaluation compute."""
    train, validation = bench.split("train").lengths, bench.split("validation").lengths
    return {
        "training": padding_share(train, training_batches(train, batch_size, 0, 0)),
        "evaluation": padding_share(validation, evaluation_batches(validation, EVALUATION_BATCH)),
    }


@dataclass(frozen=True)
class Work:
    """The FLOPs and bytes of the model of a scale, as if every tensor were read and written once.

    Bytes are counted simply. A forward: each linear reads its input and its weights and writes its output; attention
    reads queries, keys and values and writes its result; the activation reads and writes the neurons; each residual
    sum reads two states and writes one, each norm reads one and writes one; the embeddings read three rows a token
    and write one, then a norm. A backward moves twice what the forward moves. A training step also reads the matched
    states of both sides and writes their gradients, reads the gradients of what it trained for their norm, scales
    them (a read and a write), and AdamW reads weight, gradient and both moments and writes all but the gradient. Word
    embeddings are left out of the last two: a step needs only the rows of its own tokens.

    Attributes:
        cost: The formula of the FLOPs.
        widths: The units that are kept.
        hidden: The width of the residual stream.
        matched: The number of hidden states that are compared.
        trained: The number of parameters that a step of this scale trains, without word embeddings.
        itemsize: The bytes of an activation.
    """

    cost: ForwardCost
    widths: Widths
    hidden: int
    matched: int
    trained: int
    itemsize: int

    @staticmethod
    def of(bench: Bench, scale: float, itemsize: int) -> Work:
        """Return the work of an experiment's teacher cut to a scale."""
        weights = read_weights(bench.store, bench.ready.teacher)
        widths = read_candidate(bench.store, bench.ready.importance, scale).structure
        with torch.device("meta"):
            model = build(weights.config, widths)
        words = cast(nn.Embedding, cast(PreTrainedModel, model).get_input_embeddings()).weight
        _, matched = positions(Objective.of(bench.experiment.distillation), len(widths.heads))
        return Work(
            cost=ForwardCost.of(model, weights.config),
            widths=widths,
            hidden=weights.config.hidden_size,
            matched=len(matched),
            trained=sum(parameter.numel() for parameter in model.parameters()) - words.numel(),
            itemsize=itemsize,
        )

    def forward_flops(self, shape: Shape) -> float:
        """FLOPs of a forward on a batch."""
        return self.cost.flops(self.widths, *shape)

    def step_flops(self, shape: Shape) -> float:
        """FLOPs of a training step on a batch."""
        return STEP_FORWARDS * self.forward_flops(shape)

    def forward_bytes(self, shape: Shape) -> float:
        """Bytes that a forward moves, the kept states of teacher outputs not among them."""
        tokens, hidden = shape[0] * shape[1], self.hidden
        moved = tokens * (4 + 2) * hidden
        for units, heads, neurons in zip(self.cost.layers, self.widths.heads, self.widths.neurons, strict=True):
            attended, outputs = units.heads.input.kept(heads), len(units.heads.outputs)
            rows = len(units.neurons.outputs)
            weights = heads * units.heads.weights(hidden) + neurons * units.neurons.weights(hidden)
            attention = outputs * (hidden + attended) + (outputs + 1) * attended + (attended + hidden)
            feed_forward = rows * (hidden + neurons) + 2 * neurons + (neurons + hidden)
            moved += weights + tokens * (attention + feed_forward + 2 * (3 + 2) * hidden)
        return moved * self.itemsize

    def outputs_bytes(self, shape: Shape) -> float:
        """Bytes that a batch of teacher outputs moves: a forward, and the matched states read and kept."""
        states = shape[0] * shape[1] * self.matched * self.hidden
        return self.forward_bytes(shape) + states * (self.itemsize + _HALF)

    def step_bytes(self, shape: Shape) -> float:
        """Bytes that a training step moves."""
        states = shape[0] * shape[1] * self.matched * self.hidden
        compared = states * (2 * self.itemsize + _HALF)
        return STEP_FORWARDS * self.forward_bytes(shape) + compared + self.trained * _FLOAT * (1 + 2 + 7)


@dataclass(frozen=True)
class Piece:
    """One of the pieces.

    Attributes:
        name: The name in tables.
        run: A function that runs a number of steps at a scale and reports each.
        shapes: The shapes of the batches of a number of steps.
        flops: The FLOPs of a step on a batch.
        moved: The bytes of a step on a batch.
    """

    name: str
    run: Callable[[Bench, float, int, Tick], object]
    shapes: Callable[[Bench, int], Sequence[Shape]]
    flops: Callable[[Work, Shape], float]
    moved: Callable[[Work, Shape], float]


PIECES: Mapping[str, Piece] = {
    piece.name: piece
    for piece in (
        Piece("teacher_outputs", run_outputs, outputs_shapes, Work.forward_flops, Work.outputs_bytes),
        Piece(
            "once_for_all",
            run_once_for_all,
            lambda bench, steps: training_shapes(bench, bench.experiment.once_for_all.batch_size, steps),
            Work.step_flops,
            Work.step_bytes,
        ),
        Piece(
            "student",
            run_student,
            lambda bench, steps: training_shapes(bench, bench.experiment.distillation.batch_size, steps),
            Work.step_flops,
            Work.step_bytes,
        ),
    )
}
"""Every piece by its name."""


def mean_work(piece: Piece, work: Work, shapes: Sequence[Shape]) -> tuple[float, float]:
    """FLOPs and bytes of a step, averaged over batches."""
    flops = float(np.mean([piece.flops(work, shape) for shape in shapes]))
    return flops, float(np.mean([piece.moved(work, shape) for shape in shapes]))
