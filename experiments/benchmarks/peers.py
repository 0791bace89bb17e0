"""The same distillation as users write it without raydisc, beside raydisc's: seconds, and the student that comes out.

The ways take turns within each repetition, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from common import Bench, Parser, Row, finish, read_experiment, run, storage_of
from machine import DTYPES, Clock, Spread
from peer_loops import Assignment, by_plain_loop, by_trainer, load_trainer
from torch import nn

from raydisc.models.build import load_frozen, load_trainable
from raydisc.report.table import Sheet
from raydisc.stages.artifact import Model
from raydisc.stages.files import read_weights
from raydisc.stages.importance import read_candidate
from raydisc.stages.objective import Objective
from raydisc.stages.scoring import score
from raydisc.stages.targets import positions
from raydisc.tasks.batching import EVALUATION_BATCH
from raydisc.training.batches import steps_of
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

NAME = "peers"

ABOUT = """\
One distillation, teacher -> student, the same number of optimiser steps from the same weights: (trainer) a Hugging Face
Trainer subclass with a KD loss, (plain) a plain loop that pads to max_length and runs the teacher in every step,
(paper) that loop over all candidates of the grid as MiniDisc's code trains them, and (raydisc). Seconds include what
each way needs: raydisc's teacher outputs are computed again in every repetition."""

EXAMPLES = """\
  python experiments/benchmarks/peers.py --repetitions 3
  python experiments/benchmarks/peers.py --train sst2/train.parquet --validation sst2/validation.parquet"""

REFERENCE = "raydisc"

WAYS = {
    "trainer": "transformers.Trainer, teacher online, padded to the batch",
    "plain": "loop, teacher online, padded to max_length",
    "paper": "the same, all candidates in each step",
    REFERENCE: "kept teacher outputs, batches by length",
}
"""Ways to distil, and what each does."""


def assignment_of(bench: Bench, seed: int) -> Assignment:
    """Return the experiment's distillation of its first student."""
    ready, experiment = bench.ready, bench.experiment
    weights = read_weights(bench.store, ready.teacher)
    above = [scale for scale in experiment.grid.scales if scale > bench.student_scale]
    scales = [*above, bench.student_scale]
    _, matched = positions(Objective.of(experiment.distillation), weights.config.num_hidden_layers)
    train, section = bench.split("train"), experiment.distillation
    return Assignment(
        teacher=load_frozen(weights.config, weights.structure, weights.state).to(bench.device),
        config=weights.config,
        state=weights.state,
        widths={scale: read_candidate(bench.store, ready.importance, scale).structure for scale in scales},
        scale=bench.student_scale,
        matched=matched,
        train=train,
        validation=bench.split("validation"),
        pad_id=ready.data["pad_id"],
        max_length=experiment.task.max_length,
        section=section,
        steps=steps_of(section, -(-len(train) // section.batch_size)),
        seed=seed,
        device=bench.device,
        precision=bench.precision,
    )


def by_raydisc(bench: Bench, folder: Path, seed: int) -> nn.Module:
    """Distil by the stages of raydisc itself, teacher outputs included, in a fresh storage."""
    fresh = bench.linked(folder, ("tokenise", "finetune", "importance"))
    ready = fresh.ready
    request = fresh.search(seed).distil(ready, ready.teacher, ready.teacher, fresh.student_scale)
    weights = read_weights(fresh.store, Model(fresh.executor().run(request)))
    return load_trainable(weights.config, weights.structure, weights.state).to(bench.device)


def metrics_of(bench: Bench, model: nn.Module) -> dict[str, float]:
    """Return a student's metric and its standard error on validation and test."""
    found: dict[str, float] = {}
    for name in ("validation", "test"):
        split, data = bench.split(name), bench.ready.data
        predictions = predict(model, split, data["pad_id"], Pass(EVALUATION_BATCH, precision=bench.precision))
        found[name], found[f"{name}_se"] = score(data["metric"], predictions, split.labels)
    return found


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """Add each way's seconds over raydisc's in the same repetition."""
    reference = {row["repetition"]: row["seconds"] for row in rows if row["way"] == REFERENCE}
    return [row | {"ratio": row["seconds"] / reference[row["repetition"]]} for row in rows]


def sheet(rows: Sequence[Row], metric: str) -> Sheet:
    """Return the tables that are printed."""
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        same = [row for row in rows if row["way"] == way]
        spread = Spread.of([row["seconds"] / row["steps"] for row in same])
        lines.append([
            way, WAYS[way], f"{spread.median * 1e3:.1f}", Spread.of([row["ratio"] for row in same]).text(),
            *(_metric(same, name) for name in ("validation", "test")),
        ])  # fmt: skip
    columns = ["<way", "<what it does", "ms/step", "× raydisc [quartiles]", "validation", "test"]
    first = rows[0]
    title = (
        f"{first['steps']} steps to a student of {first['student_scale']:g} on {first['device']}, "
        f"{1 + max(row['repetition'] for row in rows)} repetition(s)"
    )
    return Sheet(title, columns, lines, notes=[f"{metric}: mean over repetitions ± standard error over examples."])


def _metric(rows: Sequence[Row], name: str) -> str:
    return f"{np.mean([row[name] for row in rows]):.3f} ±{np.mean([row[f'{name}_se'] for row in rows]):.3f}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_experiment()
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS), help="default: all")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="float32", help="default: float32")
    parser.add_argument("--repetitions", type=int, default=3, help="each with a seed of its own (default 3)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every way in turn.

    Raises:
        InputError: The options or the experiment cannot work.
    """
    options = parse(arguments)
    experiment = read_experiment(options)
    ways = [way for way in options.ways if way != REFERENCE]
    if "trainer" in ways and not load_trainer():
        print("peers.py: trainer is left out: it needs accelerate (pip install 'raydisc[benchmarks]')", file=sys.stderr)
        ways.remove("trainer")
    rows: list[Row] = []
    with storage_of(options) as storage:
        bench = Bench.of(options, experiment, storage).computing_in(options.precision)
        clock = Clock(bench.device, options.threads)
        for repetition in range(options.repetitions):
            assignment = assignment_of(bench, repetition)
            runs = _runs(bench, assignment, storage / f"repetition-{repetition}", [*ways, REFERENCE])
            turned = [*list(runs)[repetition % len(runs) :], *list(runs)[: repetition % len(runs)]]
            for way in turned:
                begun = clock(), time.perf_counter()
                model = runs[way]()
                seconds, wall = clock() - begun[0], time.perf_counter() - begun[1]
                rows.append(
                    {
                        "way": way, "repetition": repetition, "seconds": seconds, "wall_seconds": wall,
                        "steps": assignment.steps, "batch_size": assignment.section.batch_size,
                        "student_scale": assignment.scale, "device": bench.device.type, "threads": options.threads,
                        "precision": bench.precision, **metrics_of(bench, model),
                    }
                )  # fmt: skip
                print(f"repetition {repetition} {way}: {seconds:.1f} s, {rows[-1]['test']:.3f}", file=sys.stderr)
        metric = bench.subject.metric
    rows = sorted(with_ratios(rows), key=lambda row: list(WAYS).index(row["way"]))
    finish(NAME, rows, [sheet(rows, metric)], options)


def _runs(
    bench: Bench, assignment: Assignment, folder: Path, ways: Sequence[str]
) -> Mapping[str, Callable[[], nn.Module]]:
    known: Mapping[str, Callable[[], nn.Module]] = {
        "trainer": lambda: by_trainer(assignment),
        "plain": lambda: by_plain_loop(assignment, [assignment.scale]),
        "paper": lambda: by_plain_loop(assignment, list(assignment.widths)),
        REFERENCE: lambda: by_raydisc(bench, folder, assignment.seed),
    }
    return {way: known[way] for way in ways}


if __name__ == "__main__":
    sys.exit(run(main))
