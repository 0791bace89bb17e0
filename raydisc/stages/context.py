"""The context that every stage is computed in, and the result that its computation returns."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from raydisc.config.sections import TrainingConfig
from raydisc.parallel.rank import ALONE, Rank
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.tasks.batching import EVALUATION_BATCH
from raydisc.tasks.tokenised import Batch
from raydisc.training.batches import BatchSource, optimiser_settings
from raydisc.training.execution import Execution
from raydisc.training.inference import FlopMeter, Pass
from raydisc.training.loop import LoopSettings, Stops, never
from raydisc.training.progress import Alive, Progress, StepsDone


@dataclass(frozen=True)
class Context:
    """The context of a stage's computation.

    Attributes:
        store: The artifacts.
        device: The device to compute on.
        progress: Takes the events of the running stage.
        checkpoint_folder: The folder of what the stage needs to go on after a crash.
        execution: How the stage is computed.
        rank: The rank of this worker among those that compute the stage.
        stops: Whether this worker is asked to stop.
    """

    store: ArtifactStore
    device: torch.device
    progress: Progress
    checkpoint_folder: Path
    execution: Execution = Execution()
    rank: Rank = ALONE
    stops: Stops = never

    def loop(
        self,
        stage: str,
        config: TrainingConfig,
        source: BatchSource,
        steps: int,
        evaluate_at: frozenset[int] = frozenset(),
        patience: int | None = None,
        keep_best: bool = False,
    ) -> LoopSettings:
        """Return the settings of the loop that trains a stage.

        Args:
            stage: The stage's name in messages.
            config: The section of the experiment that says how the stage trains.
            source: The batches of the stage.
            steps: The number of optimiser steps.
            evaluate_at: The steps after which an evaluation follows.
            patience: The number of evaluations without a better metric after which training stops; None never stops.
            keep_best: Whether the best weights are kept without patience too.
        """
        return LoopSettings(
            stage=stage,
            total_steps=steps,
            seed=source.seed,
            optimiser=optimiser_settings(config),
            evaluate_at=evaluate_at,
            patience=patience,
            checkpoint_folder=self.checkpoint_folder,
            checkpoint_every_s=self.execution.checkpoint_every_s,
            tokens=source.tokens(),
            stops=self.stops,
            keep_best=keep_best,
        )

    def one_pass(self, meter: FlopMeter, rows: int | None = None) -> Pass:
        """Return a pass of the stage over rows, which reports each batch.

        Args:
            meter: Counts the FLOPs.
            rows: The number of rows where the stage does nothing else, so that each batch is reported as a step.
        """
        done = itertools.count(1)
        steps = None if rows is None else math.ceil(rows / EVALUATION_BATCH)

        def on_batch(batch: Batch) -> None:
            meter(batch)
            self.progress(Alive() if steps is None else StepsDone(next(done), steps))

        execution = self.execution
        return Pass(EVALUATION_BATCH, on_batch, execution.precision, self.rank, execution.micro_batches)


@dataclass(frozen=True)
class Result:
    """The result of a stage's computation.

    Attributes:
        facts: The facts as JSON values (see ``raydisc.stages.facts``).
        flops: The FLOPs that were executed.
        blobs: The files of the artifact by name.
        wall_before: The seconds of earlier processes whose work the computation went on from.
        cpu_before: The seconds of their process time.
    """

    facts: Mapping[str, Any]
    flops: float
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    wall_before: float = 0.0
    cpu_before: float = 0.0
