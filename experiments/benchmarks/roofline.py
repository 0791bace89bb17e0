"""Achieved FLOP/s of a search's pieces as a fraction of the machine's peak, and where a step's time goes.

The matrix-multiply peak is measured again between any two blocks of steps, in the same process and by the same clock,
so that a busy or throttled machine lowers both sides.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from breakdown import GROUPS, muted, profiler, seconds_by_group, shares
from common import (
    PREPARED,
    Bench,
    Parser,
    Row,
    finish,
    of_length,
    of_rows,
    read_experiment,
    run,
    storage_of,
    untrained,
)
from machine import DTYPES, Clock, Peak, Spread, copy_bandwidth
from pieces import PIECES, Piece, Work, mean_work, padding_shares

from raydisc.report.table import Sheet

NAME = "roofline"

ABOUT = """\
Achieved FLOP/s of teacher outputs, of a once-for-all step and of a TA -> student step, by scale, as a fraction of the
matrix-multiply peak that is measured between the same steps; time per FLOP relative to scale 1; the roofline
max(FLOPs / peak, bytes / copy bandwidth); and a breakdown of a step by torch.profiler."""

EXAMPLES = """\
  python experiments/benchmarks/roofline.py
  python experiments/benchmarks/roofline.py --train sst2/train.parquet --validation sst2/validation.parquet
  python experiments/benchmarks/roofline.py experiments/benchmarks/bert_base.yaml --length 128 --precision bfloat16"""

WARM_UP = 3
"""Steps that are not measured: allocators and caches settle."""


@dataclass
class Blocks:
    """Times steps in blocks with the machine's peak before and after each, then profiles a few more.

    Attributes:
        clock: The clock of the device.
        peak: The peak measured between blocks.
        block: The number of steps of one block.
        count: The number of blocks.
        profiled: The number of steps under the profiler, after the last block.
        seconds: The seconds of each block by the clock, filled while it runs.
        peaks: FLOP/s before the first block and after each.
        operators: The seconds of the profiled steps by group, by the clock.
    """

    clock: Clock
    peak: Peak
    block: int
    count: int
    profiled: int
    seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    _begun: tuple[float, float] = (0.0, 0.0)
    _profiler: torch.profiler.profile | None = None

    @property
    def steps(self) -> int:
        """Steps that the piece has to run."""
        return WARM_UP + self.block * self.count + self.profiled

    def __call__(self, step: int) -> None:
        """Note the number of steps that are done."""
        measured, left = divmod(step - WARM_UP, self.block)
        if step < WARM_UP or step > self.steps:
            return
        if left == 0 and measured == len(self.seconds) + 1 <= self.count:
            self.seconds.append(self.clock() - self._begun[0])
        if left == 0 and measured == len(self.peaks) <= self.count:
            self.peaks.append(self.peak.measure())
            self._begun = self.clock(), time.perf_counter()
        if step == self.steps - self.profiled and self.profiled:
            self._profiler = profiler(self.clock.device)
            with muted():
                self._profiler.start()
            self._begun = self.clock(), time.perf_counter()
        if step == self.steps and self._profiler is not None:
            # the profiler goes by the wall clock: what others did on this machine meanwhile is taken out
            own_share = (self.clock() - self._begun[0]) / (time.perf_counter() - self._begun[1])
            with muted():
                self._profiler.stop()
            found = seconds_by_group(self._profiler.events(), self.clock.device.type == "cuda")
            self.operators = Counter({group: seconds * own_share for group, seconds in found.items()})
            self._profiler = None

    def fractions(self, flops: Sequence[float]) -> list[float]:
        """Return the achieved FLOP/s of each block over the mean of the peaks around it.

        Args:
            flops: The FLOPs of each step, without the warm-up.
        """
        done = [sum(flops[index * self.block : (index + 1) * self.block]) for index in range(self.count)]
        around = [(before + after) / 2 for before, after in zip(self.peaks, self.peaks[1:], strict=False)]
        return [work / time / peak for work, time, peak in zip(done, self.seconds, around, strict=True)]


def roofline_seconds(flops: float, moved: float, peak: float, bandwidth: float) -> float:
    """Return the least seconds that these FLOPs and bytes take on a machine of this peak and bandwidth."""
    return max(flops / peak, moved / bandwidth)


def measure(bench: Bench, piece: Piece, scale: float, blocks: Blocks, bandwidth: float) -> Row:
    """Run a piece at a scale; gives its line."""
    piece.run(bench, scale, blocks.steps, blocks)
    shapes = list(piece.shapes(bench, blocks.steps))[WARM_UP:]
    shapes, profiled = shapes[: blocks.block * blocks.count], shapes[blocks.block * blocks.count :]
    work = Work.of(bench, scale, DTYPES[bench.precision].itemsize)
    flops, moved = mean_work(piece, work, shapes)
    fraction = Spread.of(blocks.fractions([piece.flops(work, shape) for shape in shapes]))
    seconds, peak = Spread.of([block / blocks.block for block in blocks.seconds]), Spread.of(blocks.peaks)
    least = roofline_seconds(flops, moved, peak.median, bandwidth)
    row: Row = {
        "piece": piece.name, "scale": scale, "precision": bench.precision, "device": bench.device.type,
        "threads": bench.threads, "blocks": blocks.count, "steps_of_block": blocks.block,
        "tokens": float(np.mean([rows * length for rows, length in shapes])), "flops": flops, "bytes": moved,
        "seconds": seconds.median, "seconds_low": seconds.low, "seconds_high": seconds.high,
        "flops_per_second": flops / seconds.median, "peak": peak.median, "peak_low": peak.low, "peak_high": peak.high,
        "bandwidth": bandwidth, "fraction_of_peak": fraction.median, "fraction_low": fraction.low,
        "fraction_high": fraction.high, "roofline_seconds": least, "fraction_of_roofline": least / seconds.median,
    }  # fmt: skip
    unprofiled = sum(piece.flops(work, shape) for shape in profiled) / flops * seconds.median
    found = shares(blocks.operators, unprofiled) if profiled else dict.fromkeys(GROUPS)
    return row | {f"share_{group}": found[group] for group in GROUPS}


def against_whole(rows: Sequence[Row]) -> list[Row]:
    """Add time per FLOP relative to scale 1 (the largest measured), each in peaks of its own moment."""
    whole: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = whole.setdefault((row["piece"], row["precision"]), row)
        if row["scale"] > known["scale"]:
            whole[row["piece"], row["precision"]] = row
    return [
        row | {"time_per_flop": whole[row["piece"], row["precision"]]["fraction_of_peak"] / row["fraction_of_peak"]}
        for row in rows
    ]


def sheets(rows: Sequence[Row], padding: dict[str, float]) -> list[Sheet]:
    """Return the tables that are printed."""
    found = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        same = [row for row in rows if row["precision"] == precision]
        first = same[0]
        title = (
            f"{precision} on {first['device']}, {first['threads']} thread(s): peak {first['peak'] / 1e9:,.1f} GFLOP/s, "
            f"copy bandwidth {first['bandwidth'] / 1e9:,.1f} GB/s"
        )
        columns = ["<piece", "scale", "GFLOP", "ms", "of peak [quartiles]", "time/FLOPs", "of roofline"]
        lines = [
            [
                row["piece"], f"{row['scale']:g}", f"{row['flops'] / 1e9:.2f}", f"{row['seconds'] * 1e3:.1f}",
                Spread(row["fraction_of_peak"], row["fraction_low"], row["fraction_high"]).text(),
                f"{row['time_per_flop']:.2f}", f"{row['fraction_of_roofline']:.2f}",
            ]
            for row in same
        ]  # fmt: skip
        notes = [
            "time/FLOPs is relative to the same piece at the largest scale; the roofline is max(FLOPs / peak, bytes / "
            "bandwidth)."
        ]
        notes.append("padding: " + ", ".join(f"{name} {share:.1%}" for name, share in padding.items()))
        found.append(Sheet(title, columns, lines, notes=notes, keys=2))
        if all(row["share_other"] is not None for row in same):
            lines = [
                [row["piece"], f"{row['scale']:g}", *(f"{row[f'share_{group}']:.0%}" for group in GROUPS)]
                for row in same
            ]
            found.append(Sheet(f"{precision}: share of a step's time", ["<piece", "scale", *GROUPS], lines, keys=2))
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(NAME, ABOUT, EXAMPLES)
    parser.add_experiment()
    parser.add_argument("--pieces", nargs="+", choices=tuple(PIECES), default=list(PIECES), help="default: all")
    parser.add_argument(
        "--scales", nargs="+", type=float, default=[1.0, 0.5, 0.3, 0.1, 0.05], help="default: 1 ... .05"
    )
    parser.add_argument("--precision", nargs="+", choices=tuple(DTYPES), default=["float32"], help="default: float32")
    parser.add_argument("--length", type=int, help="join texts so that every row has exactly this number of tokens")
    parser.add_argument("--rows", type=int, default=1024, help="training rows that are used (default 1024)")
    parser.add_argument("--block", type=int, default=5, help="steps between two measurements of the peak (default 5)")
    parser.add_argument("--blocks", type=int, default=10, help="blocks of each piece and scale (default 10)")
    parser.add_argument(
        "--profiled", type=int, default=4, help="steps under the profiler; 0 switches it off (default 4)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every piece at every scale.

    Raises:
        InputError: The options or the experiment cannot work.
    """
    options = parse(arguments)
    experiment = of_rows(untrained(read_experiment(options)), options.rows)
    rows: list[Row] = []
    with storage_of(options) as storage:
        storage.mkdir(parents=True, exist_ok=True)
        if options.length is not None:
            experiment = of_length(experiment, options.length, storage)
        prepared = Bench.of(options, experiment, storage)
        padding = padding_shares(prepared, experiment.distillation.batch_size)
        clock = Clock(prepared.device, options.threads)
        bandwidth = copy_bandwidth(clock)
        for precision in options.precision:
            chosen, peak = prepared.computing_in(precision), Peak(clock, DTYPES[precision])
            for name in options.pieces:
                for scale in options.scales:
                    blocks = Blocks(clock, peak, options.block, options.blocks, options.profiled)
                    bench = chosen.linked(_fresh(storage), PREPARED)
                    rows.append(measure(bench, PIECES[name], scale, blocks, bandwidth))
                    print(f"{precision} {name} {scale:g}: {rows[-1]['fraction_of_peak']:.2f} of peak", file=sys.stderr)
    rows = [row | {f"padding_{name}": share for name, share in padding.items()} for row in against_whole(rows)]
    finish(NAME, rows, sheets(rows, padding), options)


def _fresh(storage: Path) -> Path:
    """Provide a folder of the storage without stages, so that what is measured is computed again."""
    number = sum(1 for _ in storage.glob("measured-*"))
    return storage / f"measured-{number}"


if __name__ == "__main__":
    sys.exit(run(main))
