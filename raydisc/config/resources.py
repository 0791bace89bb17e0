"""The sections of an experiment file that say what a run may spend and use."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from raydisc.config.sections import Count, Section
from raydisc.config.yaml_file import expecting


class BudgetConfig(Section):
    """The limits of what a run may spend, in all its sessions together; null means unlimited.

    At a limit no further job is started, training stages write a checkpoint and stop, other stages end first, and
    ``raydisc resume`` continues with a larger budget.
    """

    device_hours: Annotated[float, Field(gt=0)] | None = None
    """Device hours of the stages that are computed for this run."""
    trials: Count | None = None
    """Number of trials that are started, in the order of the plan; students are tested once all have ended. A source of
    proposals in Python is asked for this number of trials, whose students are then tested."""
    wall_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours during which the run is in progress."""


class ResourcesConfig(Section):
    """The machines, devices and workers of the trials."""

    trials: Annotated[Literal["auto"] | Count, expecting("'auto' or a whole number from 1")] = "auto"
    """Number of trials that run at the same time; auto: as many as the machine or cluster has room for."""
    cpus: Count = 1
    """CPU threads of one trial, or of each of its workers. The last digits of a result depend on this number."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of one trial: a fraction of one or a whole number. With several workers, the GPUs of each worker: 0 or 1."""
    workers: Count = 1
    """Workers of one trial, each with its own device, on one machine if possible."""
    min_workers: Count | None = None
    """Smallest number of workers with which a trial continues after losing others for good; null: all of them."""
    parallel: Literal["auto", "data", "shard", "hybrid"] = "auto"
    """Distribution of a model over workers. data: each worker has all weights and a share of the batch. shard: each
    worker has a part of the weights (FSDP). hybrid: groups of workers share one copy of the weights each. auto: the
    smallest number of parts that fits, by the memory that ``raydisc plan`` computes for every stage."""
    shard: Count | None = None
    """hybrid only: number of workers that share one copy of the weights; a divisor of ``workers``."""
    synchronise: Literal["auto", "step", "candidate"] = "auto"
    """Sharded supernets: gradients are reduced once in each step, with unsharded weights in between, or after each
    candidate, which takes less memory and more communication. auto: once in each step if it fits."""
    teacher_workers: Count | None = None
    """Number of separate workers that compute the stages of the teacher before the trials start, so that no trial holds
    the teacher; null: the workers of a trial compute them."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more computation."""
    offload: bool = False
    """Keep the shards of models on GPUs in the memory of the host."""
    stall_minutes: Annotated[float, Field(gt=0)] | None = 60.0
    """Minutes without progress after which the process of a trial is restarted from its last checkpoint; null: never.
    Every batch and every wait counts as progress, but reading and writing files does not."""
    wait_minutes: Annotated[float, Field(ge=0)] = 0.0
    """Minutes that a run waits for the cluster's autoscaler if no machine has room for a trial; 0: the run is
    refused."""
    checkpoint_every_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds between two checkpoints of a training stage: the work that a crash can lose. The interval grows up to
    tenfold if writing a checkpoint would take more than a twentieth of the time."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix multiplications; weights and sums remain in float32. auto: bfloat16 on GPUs that support it,
    else float32, because CPUs differ in which of the two is faster."""

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} GPUs: above 1 only whole numbers can be given to a trial")
        return gpus

    @model_validator(mode="after")
    def _workers_fit(self) -> Self:
        if max(self.workers, self.teacher_workers or 1) > 1 and self.gpus not in (0, 1):
            raise ValueError(f"'gpus' is {self.gpus:g}, but must be 0 or 1 for each of several workers")
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"'min_workers' is {self.min_workers}, more than the {self.workers} of 'workers'")
        if self.parallel == "hybrid" and (self.shard is None or self.workers % self.shard):
            raise ValueError(
                f"'hybrid' needs 'shard', the number of workers that share one copy of the weights: a divisor of the "
                f"{self.workers} workers, but it is {self.shard}"
            )
        if self.parallel != "hybrid" and self.shard is not None:
            raise ValueError(f"'shard' needs parallel: hybrid, but parallel is {self.parallel}")
        if self.offload and not self.gpus:
            raise ValueError("'offload' moves shards from GPUs to the memory of the host, but 'gpus' is 0")
        return self
