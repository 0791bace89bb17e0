"""Peak memory of each worker where a model is sharded: loading, importance, once-for-all, saving, extraction."""

from __future__ import annotations

import gc
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from common import Parser, Row, finish, run
from torch import distributed, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from raydisc.distillation.losses import WeightedLoss
from raydisc.distillation.optimiser import OptimiserSettings, adamw
from raydisc.models.cost import ForwardCost
from raydisc.models.dense import cut
from raydisc.models.families import Config, layers_of
from raydisc.models.outputs import forward
from raydisc.models.state import State
from raydisc.models.widths import Widths
from raydisc.parallel.files import TensorFile
from raydisc.parallel.heap import return_freed_memory
from raydisc.parallel.mesh import STATE_BYTES, Layout
from raydisc.parallel.place import ALONE, Place
from raydisc.report.sheet import Sheet
from raydisc.stages.context import Context, Weights, tensor_views
from raydisc.stages.models import frozen_model, trainable_model
from raydisc.stages.once_for_all import Lesson, sandwich_backward
from raydisc.stages.store import ArtifactStore
from raydisc.stages.supernet import Supernet
from raydisc.supernet.elastic import make_elastic
from raydisc.supernet.grid import Candidate, UnitOrder, candidate, order_units, reordered
from raydisc.supernet.importance import gradient_importance, random_importance
from raydisc.tasks.tokenised import Batch, Split

EXAMPLES = """  python experiments/benchmarks/sharded.py --workers 2 --layers 12 --hidden 768
  python experiments/benchmarks/sharded.py --workers 2 --once-for-all candidate --layers 24 --hidden 1024"""

_LOOK_EVERY_S = 0.005
_SCALES = (0.9, 0.5)
_VALUES = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Shape:
    """A BERT-like model's, and the batch's."""

    layers: int
    hidden: int
    vocabulary: int
    rows: int
    length: int

    def config(self) -> Config:
        """Its configuration."""
        config = AutoConfig.for_model(
            "bert", num_hidden_layers=self.layers, hidden_size=self.hidden, num_attention_heads=self.hidden // 64,
            intermediate_size=4 * self.hidden, vocab_size=self.vocabulary, attn_implementation="sdpa",
        )  # fmt: skip
        config.num_labels = 2
        return config


class RandomState(State):
    """Random weights, each made when it is asked for."""

    def __init__(self, config: Config) -> None:
        """Find the names and the shapes."""
        with torch.device("meta"):
            self._meta = AutoModelForSequenceClassification.from_config(config).state_dict()

    def __getitem__(self, name: str) -> torch.Tensor:
        """A weight."""
        return torch.randn(self._meta[name].shape) * 0.02

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(self._meta)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._meta)

    def described(self, name: str) -> tuple[torch.Size, torch.dtype]:
        """A weight's shape and type."""
        return self._meta[name].shape, torch.float32


class Peak:
    """Watches the memory that only this process has and that no file backs."""

    def __init__(self) -> None:
        """Start at what there is."""
        self.bytes = 0
        self._base = _anonymous()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the largest value, beyond what there was at first, until the end."""
        self.bytes = _anonymous() - self._base
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_EVERY_S):
                self.bytes = max(self.bytes, _anonymous() - self._base)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _anonymous() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/smaps_rollup says nothing of anonymous memory")


class Parts:
    """The parts of a search on one worker, each with its peak."""

    def __init__(self, place: Place) -> None:
        """Nothing has been done yet."""
        self.rows: list[Row] = []
        self._place, self._peak = place, Peak()

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a part; gives what it gives."""
        gc.collect()  # sharded models are in cycles of references
        begun = time.perf_counter()
        with self._peak.watching():
            result = work()
        seconds = time.perf_counter() - begun
        self.rows.append({"part": name, "rank": self._place.rank, "bytes": self._peak.bytes, "seconds": seconds})
        return result


def measure(shape: Shape, context: Context, folder: Path) -> list[Row]:
    """The peak of each part on one worker, in the order of a search."""
    config, place = shape.config(), context.place
    batch = _batch(shape).share(place.rank, place.workers)
    frozen_model(_tiny(), context)  # what torch sets up once
    parts = Parts(place)
    order = _scored(parts, config, batch, context, folder / "teacher")
    sort = TensorFile(reordered(_mapped(folder / "teacher"), layers_of(config), order), place)
    parts("sorting", lambda: sort(folder / "sorted"))
    candidates = tuple(candidate(random_importance(layers_of(config), 0), scale) for scale in _SCALES)
    _trained(parts, config, candidates, batch, context, folder)
    narrow = TensorFile(cut(_mapped(folder / "supernet"), config, candidates[1].widths), place)
    parts("extraction", lambda: narrow(folder / "student"))
    return parts.rows


def _scored(parts: Parts, config: Config, batch: Batch, context: Context, file: Path) -> UnitOrder:
    weights = Weights(config, Widths.full(config), _mapped(file), 1.0)
    teacher = parts("loading", lambda: frozen_model(weights, context))
    with torch.no_grad():
        parts("teacher outputs", lambda: forward(teacher, batch, ()))
    layers, place = layers_of(config), context.place
    return order_units(
        parts("importance", lambda: gradient_importance(teacher, layers, [batch], False, lambda _: None, place))
    )


def _trained(
    parts: Parts, config: Config, candidates: tuple[Candidate, ...], batch: Batch, context: Context, folder: Path
) -> None:
    widths, place = candidates[0].widths, context.place
    state = cut(_mapped(folder / "sorted"), config, widths)
    model = parts("loading the supernet", lambda: trainable_model(config, widths, state, context))
    make_elastic(model, config)
    weights = Weights(config, widths, state, candidates[0].scale)
    supernet = Supernet(model, weights, candidates, ForwardCost.of(model, config), "float32", place)
    optimiser = parts("once-for-all", lambda: _train(supernet, batch))
    parts("saving", lambda: TensorFile(model.state_dict(), place)(folder / "supernet"))
    del optimiser


def _tiny() -> Weights:
    tiny = Shape(1, 64, 64, 1, 1).config()
    return Weights(tiny, Widths.full(tiny), RandomState(tiny), 1.0)


def _mapped(path: Path) -> State:
    return tensor_views(np.memmap(path, np.uint8, "r"))


def _batch(shape: Shape) -> Batch:
    ids = np.random.default_rng(0).integers(0, shape.vocabulary, (shape.rows, shape.length)).tolist()
    labels = np.arange(shape.rows) % 2
    return Split(pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32())), "label": labels})).batch(
        np.arange(shape.rows), 0
    )


def _train(supernet: Supernet, batch: Batch) -> torch.optim.Optimizer:
    """Two steps of two candidates: the optimiser's moments are there in the second."""
    optimiser = adamw(list(supernet.model.parameters()), OptimiserSettings(1e-4, 0.0, 0.01, 1.0))
    loss = WeightedLoss.of({"label": 1.0}, 1.0, False)
    for _ in range(2):
        lessons = [Lesson(it, batch, None) for it in supernet.candidates]  # type: ignore[arg-type]
        sandwich_backward(supernet, lessons, loss, ())
        nn.utils.clip_grad_norm_(supernet.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return optimiser


def _work(rank: int, workers: int, once: bool, shape: Shape, folder: Path, pipe: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return_freed_memory()
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers, timeout=timedelta(hours=1)
    )
    layout = Layout(shard=workers)
    place = Place(rank, layout, layout.mesh("cpu"), once)
    store = ArtifactStore(folder)
    context = Context(store, torch.device("cpu"), "float32", lambda state: None, folder / "partial", 60.0, place)
    pipe.send(measure(shape, context, folder))
    distributed.destroy_process_group()


def bounds(shape: Shape, workers: int, once: bool) -> dict[str, float]:
    """The most that each part may take, bytes: 1.2 × (whole / N) and one block; training keeps its whole state."""
    config = shape.config()
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    weights = sum(parameter.numel() for parameter in model.parameters()) * _VALUES
    layer = sum(parameter.numel() for parameter in model.bert.encoder.layer[0].parameters()) * _VALUES
    block = max(layer, weights - layer * shape.layers)
    holding = 1.2 * weights / workers + block
    training = 1.2 * weights / _VALUES * STATE_BYTES / workers + (2 * weights if once else 2 * block)
    parts = ("loading", "teacher outputs", "importance", "sorting", "loading the supernet")
    return {**dict.fromkeys(parts, holding), "once-for-all": training, "saving": training, "extraction": holding}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and show peaks beside bounds."""
    parser = Parser("sharded", __doc__ or "", EXAMPLES)
    for name, default in (("workers", 2), ("layers", 12), ("hidden", 768), ("vocabulary", 30522)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rows", type=int, default=8, help="of the batch of all workers")
    parser.add_argument("--length", type=int, default=32, help="tokens of a row")
    parser.add_argument("--once-for-all", choices=("step", "candidate"), default="step",
                        help="how often gradients are added up")  # fmt: skip
    options = parser.parse_args(arguments)
    shape = Shape(options.layers, options.hidden, options.vocabulary, options.rows, options.length)
    once = options.once_for_all == "step"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        torch.manual_seed(0)
        TensorFile(RandomState(shape.config()), ALONE)(folder / "teacher")
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(options.workers)]
        processes = [
            context.Process(target=_work, args=(rank, options.workers, once, shape, folder, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process, (_, theirs) in zip(processes, pipes, strict=True):
            process.start()
            theirs.close()
        found = [row for ours, _ in pipes for row in ours.recv()]
        for process in processes:
            process.join()
    most = bounds(shape, options.workers, once)
    rows = [
        {**row, "bound": most[row["part"]], "share": row["bytes"] / most[row["part"]], "workers": options.workers,
         "synchronise": options.once_for_all, "layers": shape.layers, "hidden": shape.hidden}
        for row in found
    ]  # fmt: skip
    finish("sharded", rows, [_sheet(rows)], options)


def _sheet(rows: Sequence[Row]) -> Sheet:
    lines = [
        [row["part"], str(row["rank"]), f"{row['bytes'] / 2**20:.0f}", f"{row['bound'] / 2**20:.0f}",
         f"{row['share']:.2f}", f"{row['seconds']:.1f}"]
        for row in sorted(rows, key=lambda row: list(dict.fromkeys(it["part"] for it in rows)).index(row["part"]))
    ]  # fmt: skip
    return Sheet("peak memory of a worker", ("part", "rank", "MiB", "bound MiB", "share", "seconds"), lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
