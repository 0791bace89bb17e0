"""The layouts of a run's workers, decided by the memory of its stages before device time is spent."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raydisc.config.experiment import Experiment
from raydisc.config.resources import ResourcesConfig
from raydisc.errors import InputError
from raydisc.forecast.dry_run import Forecast, Forecaster, Planned, label_of
from raydisc.forecast.footprints import Footprints
from raydisc.models.precision import Precision
from raydisc.parallel.footprint import ANY_LAYOUT, Allowed, Fit, Footprint, lay_out
from raydisc.parallel.mesh import Layout
from raydisc.schedules.base import Trial
from raydisc.stages.problem import Subject

_STATE_BYTES = 16
"""The bytes of a trained parameter: weight, gradient and AdamW's two moments in float32."""

_SMALL = 0.25
"""The share of a device's memory below which a state fits one device without further question."""


@dataclass(frozen=True)
class Layouts:
    """The layouts of a trial's workers and of the workers of the teacher's own stages."""

    trial: Layout = Layout()
    teacher: Layout = Layout()


def settled_layouts(
    experiment: Experiment, subject: Subject, trials: Sequence[Trial], precision: Precision, memory: float
) -> Layouts:
    """Return the layouts that the settings of resources ask for.

    Args:
        experiment: The experiment whose stages are planned.
        subject: Its task and teacher.
        trials: The trials of the experiment.
        precision: The precision to compute in.
        memory: The bytes of a worker's device.

    Raises:
        InputError: A stage does not fit; the message says how many workers it needs.
    """
    resources = experiment.resources
    alone = max(resources.workers, resources.teacher_workers or 1) == 1
    if alone and subject.teacher_parameters * _STATE_BYTES <= _SMALL * memory:
        return Layouts()
    with tempfile.TemporaryDirectory(prefix="raydisc-layouts-") as scratch:
        forecaster = Forecaster(experiment, subject, Path(scratch))
        forecasts = [forecaster.forecasts(trial) for trial in trials if trial.replicate == trials[0].replicate]
        footprints = Footprints(forecaster, precision, resources.checkpointing)
        heaviest = heaviest_stages(forecasts, footprints)
    return layouts_for(heaviest, resources, memory)


def layouts_for(heaviest: Sequence[tuple[Footprint, Planned]], resources: ResourcesConfig, memory: float) -> Layouts:
    """Return the layouts with which the heaviest stages fit workers of some memory.

    Raises:
        InputError: A stage does not fit.
    """
    workers, teachers = resources.workers, resources.teacher_workers or resources.workers
    own, shared = ([it for it in heaviest if it[1].request.of_teacher is of_teacher] for of_teacher in (True, False))
    if resources.teacher_workers is None:
        own = shared = list(heaviest)
    return Layouts(_layout(shared, workers, memory, resources), _layout(own, teachers, memory, resources))


def heaviest_stages(forecasts: Iterable[Sequence[Forecast]], footprints: Footprints) -> list[tuple[Footprint, Planned]]:
    """Return the stage of each kind that needs the most memory, the teacher's own stages apart from others."""
    heaviest: dict[tuple[str, bool], tuple[Footprint, Planned]] = {}
    for ways in forecasts:
        for way in (ways[0], ways[-1]):  # of the largest and of the smallest choice
            for stage in way.needed:
                footprint = footprints.of(stage)
                kind = stage.request.kind, stage.request.of_teacher
                if footprint and (kind not in heaviest or footprint.peak > heaviest[kind][0].peak):
                    heaviest[kind] = (footprint, stage)
    return list(heaviest.values())


def fit_of(footprint: Footprint, stage: Planned, workers: int, memory: float, allowed: Allowed = ANY_LAYOUT) -> Fit:
    """Return the layout with which a stage fits workers.

    Raises:
        InputError: No layout fits.
    """
    elastic = stage.plan.training is not None and stage.plan.training.elastic
    return lay_out(footprint, stage.plan.work.rows, workers, memory, elastic, allowed)


def _layout(
    stages: Sequence[tuple[Footprint, Planned]], workers: int, memory: float, resources: ResourcesConfig
) -> Layout:
    """Return a layout with as few shards as the stage with the most memory allows."""
    asked = {"auto": None, "data": 1, "shard": workers, "hybrid": resources.shard}[resources.parallel]
    synchronises = None if resources.synchronise == "auto" else resources.synchronise
    fits = []
    for footprint, stage in stages:
        try:
            fits.append(fit_of(footprint, stage, workers, memory, Allowed(asked, synchronises, resources.offload)))
        except InputError as error:
            raise InputError(f"resources.workers: {label_of([stage])}: {error}") from error
    shard = max((fit.shard for fit in fits), default=asked or 1)
    once = all(fit.synchronises == "step" for fit in fits)
    return Layout(workers // shard, shard, once or shard == 1)
