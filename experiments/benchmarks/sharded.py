"""Peak memory of each worker where a model is sharded: every stage of a search, beside the bound of what it holds."""

from __future__ import annotations

import gc
import multiprocessing
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
from common import Parser, Row, finish, run, storage_of
from safetensors.torch import save_file
from torch import distributed, nn
from transformers import AutoConfig

from raydisc.config.sections import (
    DistillationConfig,
    GridConfig,
    OnceForAllConfig,
    TeacherConfig,
)
from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.models.build import build
from raydisc.models.precision import Arithmetic
from raydisc.models.task_heads import suit, weights_of
from raydisc.models.widths import Widths
from raydisc.parallel.malloc import return_freed_memory
from raydisc.parallel.mesh import Layout
from raydisc.parallel.rank import Rank
from raydisc.parallel.shard import blocks_of
from raydisc.report.table import Sheet
from raydisc.stages.artifact import Artifact, Cost, Model
from raydisc.stages.base import Stage
from raydisc.stages.distil import Distil
from raydisc.stages.files import table_blob
from raydisc.stages.finetune import FineTune
from raydisc.stages.importance import Importance
from raydisc.stages.objective import Objective
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.store import ArtifactStore
from raydisc.stages.targets import positions
from raydisc.stages.teacher_outputs import TeacherOutputs
from raydisc.stages.worker import Worker
from raydisc.tasks.kinds import task_kind
from raydisc.training.execution import Execution

EXAMPLES = """  python experiments/benchmarks/sharded.py --model bert-base
  python experiments/benchmarks/sharded.py --model t5-v1.1-xl --synchronise candidate"""

_LOOK_EVERY_S = 0.005
_VALUES, _STATE = 4, 16
"""Bytes of a float32; of a parameter that is trained, with its gradient and AdamW's two moments."""

_STUDENT, _LENGTH = 0.1, 8

_NO_CHECKPOINT_S = 1e9
"""Seconds between checkpoints: writing one does not belong to a stage that is measured."""

MODELS: dict[str, dict[str, Any]] = {
    "bert-base": {"model_type": "bert"},
    "t5-v1.1-large": {
        "model_type": "t5", "d_model": 1024, "d_ff": 2816, "num_heads": 16, "num_layers": 24,
        "feed_forward_proj": "gated-gelu",
    },
    "t5-v1.1-xl": {
        "model_type": "t5", "d_model": 2048, "d_ff": 5120, "num_heads": 32, "num_layers": 24,
        "feed_forward_proj": "gated-gelu",
    },
    "llama-3b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 3072, "intermediate_size": 8192,
        "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
        "pad_token_id": 0,
    },
}  # fmt: skip
"""Shapes that checkpoints have; their weights are random."""


@dataclass(frozen=True)
class Asked:
    """The settings of a measurement.

    Attributes:
        model: A name of ``MODELS``.
        layout: The layout of the workers.
        rows: The number of training rows; validation has half as many.
        assistant: The largest scale that once-for-all trains.
        training: Whether once-for-all and what follows are run.
    """

    model: str
    layout: Layout
    rows: int
    assistant: float
    training: bool

    def config(self) -> Config:
        """Return the model's configuration, as a classifier of two classes."""
        named = dict(MODELS[self.model])
        config = AutoConfig.for_model(named.pop("model_type"), **named, attn_implementation="sdpa")
        suit(config, task_kind("classification"), 2, 0)
        return config


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
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status says nothing of anonymous memory")


def write_checkpoint(asked: Asked, folder: Path) -> None:
    """Write a finished teacher of random weights in bfloat16, tensor by tensor, into files of its layers."""
    config = asked.config()
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    with torch.device("meta"):
        weights = weights_of(build(config, Widths.full(config)))
    names, file = list(weights), 0
    while names:
        part, names = names[:16], names[16:]
        file += 1
        made = {name: _random(weights[name]) for name in part}
        save_file(made, folder / f"model-{file:05}.safetensors", metadata={"format": "pt"})


def _random(like: torch.Tensor) -> torch.Tensor:
    if not like.is_floating_point():  # T5's order of heads
        return torch.arange(len(like))
    return (torch.randn(like.shape) * 0.02).to(torch.bfloat16) if like.ndim > 1 else torch.ones(like.shape)


def write_data(store: ArtifactStore, asked: Asked) -> Artifact:
    """Random tokens as a tokenised task of two classes."""
    rng, sizes = np.random.default_rng(0), {"train": asked.rows, "validation": asked.rows // 2}
    tables = {
        split: pa.table({
            "input_ids": pa.array(rng.integers(5, 30000, (rows, _LENGTH)).tolist(), pa.list_(pa.int32())),
            "label": pa.array(np.arange(rows) % 2),
        })
        for split, rows in sizes.items()
    }  # fmt: skip
    facts = {
        "kind": "classification", "classes": ["0", "1"], "num_labels": 2, "metric": "accuracy", "pad_id": 0,
        "max_length": _LENGTH, "text": ["text"], "vocab_size": 32128, "rows": sizes,
        "tokens": {split: rows * _LENGTH for split, rows in sizes.items()},
    }  # fmt: skip
    blobs = {f"{split}.arrow": table_blob(table) for split, table in tables.items()}
    return store.commit(Artifact("data", "tokenise", ()), facts, Cost(0.0), blobs)


def measure(asked: Asked, rank: Rank, folder: Path) -> list[Row]:
    """Return the peak of each stage on one worker, in the order of a search."""
    store = ArtifactStore(folder)
    worker = Worker(
        store, torch.device("cpu"), Execution(checkpoint_every_s=_NO_CHECKPOINT_S, outputs_in_memory=0.0), rank
    )
    arithmetic = Arithmetic(1, layout=str(rank.layout), teacher_layout=str(rank.layout))
    _warm_up(rank)
    rows: list[Row] = []
    peak = Peak()

    def ask(name: str, request: Stage) -> Artifact:
        gc.collect()
        begun = time.perf_counter()
        with peak.watching():
            artifact = worker(request, request.promise(arithmetic), lambda state: None)
        seconds = time.perf_counter() - begun
        rows.append({"stage": name, "rank": rank.index, "bytes": peak.bytes, "seconds": seconds})
        return artifact

    _search(asked, folder, ask)
    return rows


def _warm_up(rank: Rank) -> None:
    """Let torch set up gloo's buffers and the autograd engine's thread once."""
    rank.total(torch.ones(1))
    nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()


def _search(asked: Asked, folder: Path, ask: Callable[[str, Stage], Artifact]) -> None:
    data = ArtifactStore(folder).find("data")
    assert data is not None
    distillation = DistillationConfig(epochs=2.0, lr=1e-4, batch_size=asked.rows // 2)
    objective = Objective.of(distillation)
    matched = positions(objective, asked.config().num_hidden_layers)[1]
    finished = TeacherConfig(model=str(folder / "teacher"))
    teacher = ask("load and save", FineTune(data, "weights", None, 0, finished))
    outputs = TeacherOutputs(data, Model(teacher), matched, "float16", 64)
    kept = ask("teacher outputs", outputs)
    importance = ask("importance, sorting, saving", Importance.of(data, teacher, GridConfig(), 0))
    if not asked.training:
        return
    once_for_all = OnceForAllConfig(epochs=2.0, lr=1e-4, batch_size=asked.rows // 2, candidates="all", choose_at=1.0)
    scales = (asked.assistant, _STUDENT)
    supernet = ask("once-for-all", OnceForAll(data, kept, importance, scales, once_for_all, objective, 0, None))
    assistant, start = Model(supernet, asked.assistant), Model(supernet, _STUDENT)
    ask("assistant outputs", TeacherOutputs(data, assistant, matched, "float16", 64))
    ask("extraction and distillation", Distil(
        data, importance, assistant, None, start, _STUDENT, distillation, 0
    ))  # fmt: skip


def bounds(asked: Asked) -> dict[str, float]:
    """Return the most that each stage may take for what it holds, in bytes: 1.2 × (whole / N) and one block.

    Training holds the whole state of what it trains; gradients that wait for a step's last candidate an unsharded copy
    of weights and gradients.
    """
    config = asked.config()
    with torch.device("meta"):
        model = build(config, Widths.full(config))
    whole, layers = _bytes(model), [_bytes(block) for block in blocks_of(model, config)]
    block, shards = max(*layers, whole - sum(layers)), asked.layout.shard
    never_pruned = whole - sum(
        model.get_parameter(f"{linear.path}.weight").nbytes for units in layers_of(config) for linear in units.linears
    )
    largest, student = (never_pruned + scale * (whole - never_pruned) for scale in (asked.assistant, _STUDENT))
    holding = 1.2 * whole / shards + block
    gathered = 2 * largest if asked.layout.once else 2 * block
    return {
        **dict.fromkeys(("load and save", "teacher outputs", "importance, sorting, saving"), holding),
        "once-for-all": 1.2 * largest * _STATE / _VALUES / shards + gathered,
        "assistant outputs": 1.2 * largest / shards + block,
        "extraction and distillation": 1.2 * (student * _STATE / _VALUES + largest) / shards + 2 * block,
    }


def _bytes(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) * _VALUES


def _work(rank: int, asked: Asked, folder: Path, pipe: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return_freed_memory()
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=asked.layout.workers,
        timeout=timedelta(hours=1),
    )  # fmt: skip
    pipe.send(measure(asked, Rank(rank, asked.layout, asked.layout.mesh("cpu")), folder))
    distributed.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and show peaks beside bounds."""
    parser = Parser("sharded", __doc__ or "", EXAMPLES)
    parser.add_argument("--model", choices=MODELS, default="bert-base", help="whose shape the teacher has")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=16, help=f"of training, {_LENGTH} tokens each")
    parser.add_argument("--assistant", type=float, default=0.5, help="the largest scale that once-for-all trains")
    parser.add_argument("--synchronise", choices=("step", "candidate"), default="step",
                        help="how often once-for-all adds gradients up")  # fmt: skip
    parser.add_argument("--without-training", action="store_true", help="end with the sorted teacher")
    options = parser.parse_args(arguments)
    layout = Layout(1, options.workers, options.synchronise == "step")
    asked = Asked(options.model, layout, options.rows, options.assistant, not options.without_training)
    with storage_of(options) as folder:
        write_checkpoint(asked, folder / "teacher")
        write_data(ArtifactStore(folder), asked)
        found = _measured(asked, folder)
    most, config = bounds(asked), asked.config()
    with torch.device("meta"):
        parameters = sum(it.numel() for it in build(config, Widths.full(config)).parameters())
    rows = [
        {**row, "bound": most[row["stage"]], "share": row["bytes"] / most[row["stage"]], "model": asked.model,
         "parameters": parameters, "workers": layout.workers, "synchronise": options.synchronise}
        for row in found
    ]  # fmt: skip
    finish("sharded", rows, [_sheet(rows)], options)


def _measured(asked: Asked, folder: Path) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(asked.layout.workers)]
    processes = [
        context.Process(target=_work, args=(rank, asked, folder, theirs), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    found = [row for ours, _ in pipes for row in ours.recv()]
    for process in processes:
        process.join()
    return found


def _sheet(rows: Sequence[Row]) -> Sheet:
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    lines = [
        [row["stage"], str(row["rank"]), f"{row['bytes'] / 2**20:.0f}", f"{row['bound'] / 2**20:.0f}",
         f"{row['share']:.2f}", f"{row['seconds']:.1f}"]
        for row in sorted(rows, key=lambda row: stages.index(row["stage"]))
    ]  # fmt: skip
    title = f"peak memory of each of {rows[0]['workers']} workers, {rows[0]['parameters'] / 1e6:.0f} M parameters"
    return Sheet(title, ("stage", "rank", "MiB", "bound MiB", "share", "seconds"), lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
