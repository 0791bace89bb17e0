"""The memory that a stage needs, and its layout over workers: the arithmetic of ``parallel: auto``."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from raydisc.errors import InputError

USABLE = 0.9
"""The share of a device's memory that a layout may fill; fragments, workspaces and the context take the rest."""

Kind = Literal["single", "data", "shard", "hybrid"]
"""One worker; replicas; shards of one copy (FSDP2); sharded replicas (HSDP)."""

_GIB = 2**30
_MOST_WORKERS = 2**16


@dataclass(frozen=True)
class Footprint:
    """The bytes that a stage needs on a single worker.

    Attributes:
        weights: The weights of the model that is trained or run, and of a teacher that is run beside it.
        gradients: The gradients of the trained parameters.
        optimiser: AdamW's two moments of the trained parameters.
        activations: The tensors kept for the backward pass and the temporary tensors of the largest batch.
        targets: The teacher's outputs on that batch.
        block: The weights of the largest layer, which a sharded model gathers as a whole.
        peak: The most bytes in use at one time, since the parts above are not all in use at once.
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
        """The bytes that sharding divides: weights, gradients and optimiser."""
        return self.weights + self.gradients + self.optimiser


@dataclass(frozen=True)
class Fit:
    """A layout with which a stage fits its workers.

    Attributes:
        kind: The kind of layout.
        replicate: The number of copies of the model.
        shard: The number of workers that share a copy.
        synchronises: When gradients are summed over workers: once a step, or after every candidate of a step where
            unsharded gradients do not fit.
        bytes: The most bytes that one worker holds.
    """

    kind: Kind
    replicate: int
    shard: int
    synchronises: Literal["step", "candidate"]
    bytes: int


def worker_bytes(
    footprint: Footprint, rows: int, replicas: int, shards: int, unsharded_step: bool, offload: bool = False
) -> int:
    """Return an upper bound of the bytes on one worker, as if all parts were in use at once.

    Args:
        footprint: The footprint of the whole stage on one worker.
        rows: The rows of the largest batch, which the workers share; each has at least one.
        replicas: The number of copies of the model.
        shards: The number of workers that share a copy; they gather the weights of one block at a time.
        unsharded_step: Whether weights and gradients stay gathered until the last candidate of a step.
        offload: Whether shards are kept in the host's memory.
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
    """The constraints on a layout.

    Attributes:
        shards: The number of workers that share a copy, or None for any number.
        synchronises: When an elastic model sums gradients over workers, or None for either way.
        offload: Whether shards are kept in the host's memory.
    """

    shards: int | None = None
    synchronises: Literal["step", "candidate"] | None = None
    offload: bool = False


ANY_LAYOUT = Allowed()
"""No constraint at all."""


def lay_out(
    footprint: Footprint, rows: int, workers: int, memory: float, elastic: bool, allowed: Allowed = ANY_LAYOUT
) -> Fit:
    """Return the fitting layout with the least communication: replicas if possible, otherwise the fewest shards.

    Synchronising after each candidate of a sandwich is the last resort.

    Args:
        footprint: The footprint of the stage on one worker.
        rows: The rows of its largest batch.
        workers: The number of workers, all of which are used.
        memory: The bytes of a worker's device.
        elastic: Whether a step trains several candidates, so that gradients may wait for the last of them.
        allowed: The constraints on the layout.

    Raises:
        InputError: No layout fits; the message says how many workers would be enough.
    """
    if workers < 1:
        raise InputError(f"`workers` must be at least 1, but is {workers}")
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
        f"sharded over all, it needs {least} of them"
        if least
        else "no number of them is enough, since a row of a batch and one layer must fit each"
    )
    shares = {None: "even sharded", 1: "with a whole copy on each"}.get(allowed.shards, f"{allowed.shards} to a copy")
    raise InputError(
        f"the model does not fit {workers} device{'s' if workers > 1 else ''} of {memory / _GIB:.3g} GiB, {shares}; "
        f"{advice}"
    )


def fewest_workers(footprint: Footprint, rows: int, memory: float) -> int | None:
    """Return the smallest number of workers with which a fully sharded stage fits, or None if no number is enough."""
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
