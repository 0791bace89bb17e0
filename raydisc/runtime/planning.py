"""The plan of an experiment for given devices, for those of a cluster, or for this machine's."""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError
from raydisc.forecast.devices import Devices, given_devices, local_devices
from raydisc.forecast.dry_run import Forecast, Forecaster
from raydisc.forecast.plan import Prober, make_plan
from raydisc.forecast.timing import Pace, probe, seconds_of
from raydisc.runs.machine import bound_threads, refuse_beyond_machine, refuse_without
from raydisc.runtime.session import ray_session
from raydisc.schedules.kd import Kd
from raydisc.schedules.trials import trials_of
from raydisc.stages.plan import Outlook
from raydisc.stages.problem import inspect, student_scales
from raydisc.training.execution import Execution


def forecast(
    experiment: Experiment,
    gpus: int | None = None,
    gpu_memory: str | None = None,
    address: str | None = None,
    probed: bool = False,
    price: float | None = None,
) -> dict[str, Any]:
    """Return what ``raydisc plan --json`` prints.

    Args:
        experiment: The experiment to plan.
        gpus: The number of GPUs, of ``gpu_memory`` each.
        gpu_memory: The memory of one GPU, such as ``80GiB``.
        address: The address of a Ray cluster, whose devices are used instead.
        probed: Whether to time steps on this machine's device.
        price: The price of a device-hour.

    Example:
        >>> from raydisc.testing.runs import tiny_experiment
        >>> experiment = tiny_experiment(schedules=["kd"], grid={"scales": [0.5]})
        >>> plan = forecast(experiment, gpus=1, gpu_memory="80GiB")
        >>> [candidate["scale"] for candidate in plan["candidates"]]
        [1.0, 0.5, 0.25]

    Raises:
        InputError: The experiment or the devices cannot work.
    """
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise InputError(f"`--price` must be a number of at least 0, the price of a device-hour, but is {price}")
    if price is not None and not probed:
        raise InputError("--price needs --probe: without seconds on this machine's device there is nothing to multiply")
    devices = _devices(gpus, gpu_memory, address)
    return make_plan(experiment, devices, _prober(experiment) if probed else None, price)


def measured_rate(experiment: Experiment) -> float:
    """Return the FLOPs that this machine's device does in a second of KD, from a few steps that are timed.

    Raises:
        InputError: The experiment or the device cannot work.
    """
    subject = inspect(experiment, weights=False)
    trial = trials_of([Kd(Kd.Options())], experiment, student_scales(experiment, subject))[0]
    with tempfile.TemporaryDirectory(prefix="raydisc-rate-") as scratch:
        forecaster = Forecaster(experiment, subject, Path(scratch))
        [way] = forecaster.forecasts(trial)
        pace = _prober(experiment)([[way]], forecaster.outlook)
        stages = [stage for stage in way.needed if stage.searched]
        seconds = sum(seconds_of(stage.plan.work, forecaster.outlook, pace) for stage in stages)
        return sum(stage.artifact.flops for stage in stages) / seconds


def _devices(gpus: int | None, gpu_memory: str | None, address: str | None) -> Devices:
    if address is None:
        return local_devices() if gpus is None and gpu_memory is None else given_devices(gpus, gpu_memory)
    if gpus is not None or gpu_memory is not None:
        raise InputError("--address asks the cluster for its devices; leave --gpus and --gpu-memory out")
    if not address:
        raise InputError("--address: it is empty; give the address of a Ray cluster (HOST:PORT), or auto to find it")
    os.environ["RAY_ADDRESS"] = address
    with ray_session():
        from raydisc.runtime.cluster import devices_of_cluster

        return devices_of_cluster()


def _prober(experiment: Experiment) -> Prober:
    """Return a function that times steps on this machine's GPU, or without one on the threads of a trial."""
    here = local_devices()
    device = torch.device("cuda" if here.kind == "gpu" else "cpu")
    if here.kind == "cpu":
        refuse_beyond_machine(experiment.resources)
        bound_threads(experiment.resources.cpus)
    precision = here.precision(experiment.resources)
    refuse_without(precision, device)

    def timed(forecasts: Sequence[Sequence[Forecast]], outlook: Outlook) -> Pace:
        execution = Execution.of(experiment.resources, experiment.teacher_outputs, precision)
        return probe(forecasts, outlook, device, execution, experiment.resources.cpus)

    return timed
