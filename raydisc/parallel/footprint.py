"""What a stage needs in memory, and how to lay it out over workers: ``parallel: auto`` as arithmetic."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from raydisc.errors import InputError

USABLE = 0.9
"""Share of a device's memory that a layout may fill; the rest is for fragments, kernels' workspaces and the context."""

Kind = Literal["single", "data", "shard", "hybrid"]
"""One worker; replicas; shards of one copy (FSDP2); replicas that are sharded each (HSDP)."""

_GIB = 2**30
_MOST_WORKERS = 2**16


@dataclass(frozen=True)
class Footprint:
    """Bytes of a stage on a worker that does all of it.

    Attributes:
        weights: of the model that is trained or run, and of a teacher that is run beside it.
        gradients: of the parameters that are trained.
        optimiser: AdamW's two moments of them.
        activations: what forwards keep for backwards, and temporary tensors, of the largest batch.
        targets: the teacher's outputs on that batch.
        block: weights of the largest layer, which a sharded model gathers at once.
        peak: the most that lives at one time; the parts do not all live at once.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    targets: int
    block: int
    peak: int

    @property
    def state(self) -> int:
        """Bytes that sharding divides."""
        return self.weights + self.gradients + self.optimiser


@dataclass(frozen=True)
class Fit:
    """How a stage fits some workers.

    Attributes:
        kind: which way.
        replicate: copies of the model.
        shard: workers that share a copy.
        synchronises: after every step, or after every candidate of it where unsharded gradients do not fit.
        bytes: the most that one worker holds.
    """

    kind: Kind
    replicate: int
    shard: int
    synchronises: Literal["step", "candidate"]
    bytes: int


def worker_bytes(
    footprint: Footprint, rows: int, replicas: int, shards: int, unsharded_step: bool, offload: bool = False
) -> int:
    """The most that a worker holds, as if all parts lived at once.

    Args:
        footprint: of the whole stage on one worker.
        rows: of the largest batch, which all workers share; each has at least one.
        replicas: copies of the model.
        shards: workers that share a copy; one gathers a block's weights and makes its gradient at a time.
        unsharded_step: weights and gradients stay gathered until a step's last candidate.
        offload: shards are in the host's memory.
    """
    if replicas == shards == 1:
        return footprint.peak
    mine = -(-rows // (replicas * shards)) / rows
    state = footprint.state / shards
    if shards > 1:
        state = 0.0 if offload else state
        trained = footprint.gradients > 0
        gathered = footprint.weights + footprint.gradients if unsharded_step else footprint.block * (1 + trained)
        state += gathered
    return round(state + mine * (footprint.activations + footprint.targets))


@dataclass(frozen=True)
class Allowed:
    """What a layout may be.

    Attributes:
        shards: workers that share a copy; None leaves it open.
        synchronises: of an elastic model; None leaves it open.
        offload: shards are in the host's memory.
    """

    shards: int | None = None
    synchronises: Literal["step", "candidate"] | None = None
    offload: bool = False


ANY_LAYOUT = Allowed()
"""All is left open."""


def lay_out(
    footprint: Footprint, rows: int, workers: int, memory: float, elastic: bool, allowed: Allowed = ANY_LAYOUT
) -> Fit:
    """The layout with the least communication that fits: replicas, then shards as few as will do.

    Synchronising a sandwich after each candidate is the last resort.

    Args:
        footprint: of the stage on one worker.
        rows: of its largest batch.
        workers: to lay it out over, all of them.
        memory: bytes of a worker's device.
        elastic: whether a step trains several candidates, so that gradients may wait for the last of them.
        allowed: what it may be.

    Raises:
        InputError: no layout fits; says how many workers would do.
    """
    if workers < 1:
        raise InputError(f"workers: {workers} are none; give at least 1")
    sizes = [count for count in range(1, workers + 1) if workers % count == 0 and allowed.shards in (None, count)]
    ways = [name == "step" for name in ("step", "candidate") if allowed.synchronises in (None, name)]
    for unsharded_step, shards in product(ways if elastic else (False,), sizes):
        replicas = workers // shards
        held = worker_bytes(footprint, rows, replicas, shards, unsharded_step, allowed.offload)
        if held <= USABLE * memory:
            once = unsharded_step or not elastic or (shards == 1 and allowed.synchronises is None)
            return Fit(_kind(replicas, shards), replicas, shards, "step" if once else "candidate", held)
    least = fewest_workers(footprint, rows, memory)
    advice = (
        f"sharded over all, it takes {least} of them"
        if least
        else "no number of them is enough: a batch's row and one layer must fit"
    )
    shares = {None: "even sharded", 1: "with a whole copy on each"}.get(allowed.shards, f"{allowed.shards} to a copy")
    raise InputError(
        f"the model does not fit {workers} device{'s' if workers > 1 else ''} of {memory / _GIB:.3g} GiB, {shares}; "
        f"{advice}"
    )


def fewest_workers(footprint: Footprint, rows: int, memory: float) -> int | None:
    """The smallest number of workers with which a stage fits when it is sharded over all; None where none is enough."""
    if worker_bytes(footprint, rows, 1, 1, False) <= USABLE * memory:
        return 1
    if worker_bytes(footprint, rows, 1, _MOST_WORKERS, False) > USABLE * memory:
        return None
    # more shards never need more memory each
    low, high = 1, _MOST_WORKERS
    while high - low > 1:
        middle = (low + high) // 2
        if worker_bytes(footprint, rows, 1, middle, False) <= USABLE * memory:
            high = middle
        else:
            low = middle
    return high


def _kind(replicas: int, shards: int) -> Kind:
    if shards == 1:
        return "single" if replicas == 1 else "data"
    return "shard" if replicas == 1 else "hybrid"
