"""How long a checkpoint stops training, beside a bare write of as many bytes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from common import Parser, Row, finish, run, storage_of
from machine import Spread
from torch import nn

from raydisc.report.table import Sheet
from raydisc.storage.fsync import sync
from raydisc.training.checkpoint import TrainingState, optimiser_tensors, save
from raydisc.training.optimiser import OptimiserSettings, adamw

NAME = "checkpoints"

ABOUT = """\
A checkpoint of a model of a given size (its weights, AdamW's two moments, the best weights so far), written as a
stage writes it, in turns with a bare write of the same bytes; and the share of a minute, the usual time between two."""

EXAMPLES = """\
  python experiments/benchmarks/checkpoints.py
  python experiments/benchmarks/checkpoints.py --millions 110 --repetitions 5"""

_WIDTH = 1024
_MINUTE_S = 60.0


def state_of(millions: float) -> TrainingState:
    """Return the state of a training of linear layers with this number of million parameters."""
    layers = max(1, round(millions * 1e6 / _WIDTH**2))
    model = nn.Sequential(*(nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(layers)))
    optimiser = adamw(model, list(model.parameters()), OptimiserSettings(1e-4, 0.0, 0.0, 1.0, 0.999))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    state = TrainingState(step=1)
    state.put("model.", model.state_dict())
    state.put("best.", {name: tensor.clone() for name, tensor in model.state_dict().items()})
    state.put("optimiser.", optimiser_tensors(optimiser))
    return state


def bare_write(path: Path, content: memoryview) -> None:
    """Write bytes, and wait until they are on the disk."""
    path.write_bytes(content)
    sync(path)


def measure(folder: Path, millions: float, repetitions: int) -> list[Row]:
    """Both ways in turns; gives a line for each repetition, after one that is not counted."""
    state = state_of(millions)
    size = sum(tensor.nbytes for tensor in state.tensors.values())
    content = torch.empty(size, dtype=torch.uint8).random_().numpy().data
    rows: list[Row] = []
    for repetition in range(repetitions + 1):
        begun = time.perf_counter()
        save(folder, state)
        saved = time.perf_counter()
        bare_write(folder / "bare", content)
        written = time.perf_counter()
        seconds = {"checkpoint_seconds": saved - begun, "bare_seconds": written - saved}
        row = {"millions": millions, "bytes": size, "repetition": repetition, **seconds}
        rows.append(row | {"share_of_a_minute": (saved - begun) / _MINUTE_S})
    return rows[1:]


def sheet(rows: Sequence[Row]) -> Sheet:
    """Return the tables that are printed."""
    lines = []
    for millions in dict.fromkeys(row["millions"] for row in rows):
        same = [row for row in rows if row["millions"] == millions]
        mine, bare = (Spread.of([row[f"{name}_seconds"] for row in same]) for name in ("checkpoint", "bare"))
        ratio = Spread.of([row["checkpoint_seconds"] / row["bare_seconds"] for row in same])
        lines.append([
            f"{millions:g}", f"{same[0]['bytes'] / 2**20:,.0f}", f"{mine.median:.2f}", f"{bare.median:.2f}",
            f"{ratio.median:.2f}", f"{mine.median / _MINUTE_S:.1%}",
        ])  # fmt: skip
    columns = ["million parameters", "MiB", "checkpoint s", "bare write s", "ratio", "of a minute"]
    return Sheet("writing a checkpoint", columns, lines, notes=["Medians; the two ways take turns."])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_argument("--millions", nargs="+", type=float, default=[22, 110], help="parameters; default 22 110")
    parser.add_argument("--repetitions", type=int, default=5, help="of each (default 5)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size."""
    options = parse(arguments)
    rows: list[Row] = []
    with storage_of(options) as storage:
        for millions in options.millions:
            rows += measure(storage / f"{millions:g}", millions, options.repetitions)
            print(f"{millions:g} million: {rows[-1]['checkpoint_seconds']:.2f} s", file=sys.stderr)
    finish(NAME, rows, [sheet(rows)], options)


if __name__ == "__main__":
    sys.exit(run(main))
