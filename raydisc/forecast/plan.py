"""The plan of an experiment as JSON values: candidates, stages, search costs, and the fit of stages on devices."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raydisc.config.experiment import Experiment, GridConfig
from raydisc.errors import InputError
from raydisc.forecast.devices import Devices
from raydisc.forecast.dry_run import Forecast, Forecaster, Planned, label_of, search_cost
from raydisc.forecast.footprints import Footprints
from raydisc.forecast.layouts import fit_of, heaviest_stages
from raydisc.forecast.searches import Bounds, bounds_of, examples_of, searches_in
from raydisc.forecast.timing import Pace, seconds_of
from raydisc.models.structure import full_structure
from raydisc.parallel.footprint import Footprint, fewest_workers
from raydisc.report.rows import ratio
from raydisc.report.schedules import compared, oracle_schedule, schedule_order
from raydisc.schedules.base import Trial
from raydisc.schedules.trials import expand, notices_of_outputs, schedules_of, trials_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.plan import Outlook
from raydisc.stages.problem import inspect, student_scales
from raydisc.supernet.candidates import candidate

Row = dict[str, Any]
"""A row of a plan: JSON values by name."""

Seconds = Callable[[Planned], float]
"""Returns the device-seconds of a stage."""

Prober = Callable[[Sequence[Sequence[Forecast]], Outlook], Pace]
"""Times steps of forecast trials."""


def shown_beside(experiment: Experiment, students: Sequence[float]) -> list[Trial]:
    """Return the trials of the schedules that are shown for comparison, where the experiment lacks them.

    A schedule for which the grid has no room is left out.
    """
    asked = schedules_of(experiment)
    named = {schedule.name for schedule in asked}
    missing = [schedule.beside(asked) for schedule in compared() if schedule.name not in named]
    scales = experiment.grid.scales
    fitting = [it for it in missing if not any(it.refusal(scales, student) for student in students)]
    return trials_of(fitting, experiment, students)


def candidate_rows(outlook: Outlook, data: Artifact, grid: GridConfig, students: Sequence[float]) -> list[Row]:
    """Return each scale of the grid and each student's: sizes, and FLOPs of a forward at the data's mean length."""
    length = round(float(outlook.split(data, "train").lengths.mean()))
    whole = outlook.cost.flops(full_structure(outlook.config), 1, length)
    rows = [_teacher_row(outlook.teacher_parameters, whole)]
    for scale in sorted({*grid.scales, *students}, reverse=True):
        if scale < min(students):
            continue
        structure = candidate(outlook.scores, scale, grid.allocation).structure
        size = structure.size(outlook.config, outlook.teacher_parameters)
        flops = outlook.cost.flops(structure, 1, length)
        rows.append({
            "scale": scale, "measured_scale": size.measured_scale, "parameters": size.parameters, "flops": flops,
            "flops_share": flops / whole, "student": scale in students,
        })  # fmt: skip
    return [{**row, "length": length} for row in rows]


def _teacher_row(parameters: int, flops: int) -> Row:
    return {
        "scale": 1.0, "measured_scale": 1.0, "parameters": parameters, "flops": flops, "flops_share": 1.0,
        "student": False,
    }  # fmt: skip


def schedule_rows(
    forecasts: Sequence[Sequence[Forecast]], wanted: Sequence[Trial], seconds: Seconds | None
) -> list[Row]:
    """Return the search cost of each schedule and student, as a mean over replicates, beside the cheapest path's.

    Choices that are not yet made are taken to be equally likely by ``expected``.
    """
    groups: _Groups = defaultdict(lambda: defaultdict(list))
    for ways in forecasts:
        trial = ways[0].trial
        groups[_schedule(trial)][trial.replicate].append(ways)
    floors = _path_costs(groups)
    rows = []
    for (name, student, *_), replicates in groups.items():
        costs = [_cost(trials, seconds) for trials in replicates.values()]
        some = next(iter(replicates.values()))
        teachers, seeds = (len(set(known)) for known in zip(*replicates, strict=True))
        row: Row = {
            "schedule": name, "student_scale": student, "trials": some[0][0].trial.schedule.most or len(some),
            "teachers": teachers, "seeds": seeds, "label": some[0][0].trial.schedule.label,
            "lam": some[0][0].trial.schedule.lam, "assistants": _assistants(some), "asked": some[0][0].trial in wanted,
        }  # fmt: skip
        for quantity in costs[0]:
            row[quantity] = {bound: sum(cost[quantity][bound] for cost in costs) / len(costs) for bound in _BOUNDS}
        low, high = floors.get(student, (None, None))
        row["relative_to_cheapest_path"] = {bound: ratio(row["flops"][bound], low) for bound in _BOUNDS}
        row["relative_to_dearest_path"] = {bound: ratio(row["flops"][bound], high) for bound in _BOUNDS}
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["student_scale"], schedule_order(row["schedule"])))


_Groups = dict[Any, dict[tuple[int | None, int], list[Sequence[Forecast]]]]
"""The forecasts of each schedule and student by replicate: the seed of the teacher and that of the trial."""

_BOUNDS = ("expected", "low", "high")


def _schedule(trial: Trial) -> tuple[Any, ...]:
    if trial.schedule.source:
        return trial.schedule.name, trial.student_scale, trial.schedule.options.model_dump_json(), None
    return trial.schedule.name, trial.student_scale, trial.schedule.label, len(trial.path)


def _assistants(trials: Sequence[Sequence[Forecast]]) -> list[list[float]]:
    """Return the assistants of each trial, or those that it may choose."""
    return [list(way.assistants or way.trial.path) for ways in trials for way in ways]


def _cost(trials: Sequence[Sequence[Forecast]], seconds: Seconds | None) -> dict[str, dict[str, float]]:
    """Return the search cost of all trials of a schedule in one replicate; only a schedule of one trial has choices."""
    if trials[0][0].trial.schedule.source:
        [search] = searches_in(trials)
        of_search = {"flops": search.searched(lambda stage: stage.artifact.flops)}
        return of_search | ({"device_seconds": search.searched(seconds)} if seconds else {})
    if len(trials) == 1:
        costs = [search_cost(way.stages, way.ends, seconds or _no_seconds) for way in trials[0]]
    else:
        stages = {stage.key: stage for ways in trials for stage in ways[0].stages}
        costs = [search_cost(stages.values(), [end for ways in trials for end in ways[0].ends], seconds or _no_seconds)]
    found = {"flops": bounds_of([cost.flops for cost in costs])}
    return found | ({"device_seconds": bounds_of([cost.device_seconds for cost in costs])} if seconds else {})


def _no_seconds(stage: Planned) -> float:
    return 0.0


def _path_costs(groups: _Groups) -> dict[float, tuple[float, float]]:
    """Return for each student the costs of the grid's cheapest and dearest path alone, the mean over replicates."""
    found: dict[float, tuple[float, float]] = {}
    for (name, student, *_), replicates in groups.items():
        if name == oracle_schedule():
            costs = [[ways[0].flops for ways in trials] for trials in replicates.values()]
            low, high = (sum(map(pick, costs)) / len(costs) for pick in (min, max))
            found[student] = (min(low, found.get(student, (low, high))[0]), max(high, found.get(student, (0, high))[1]))
    return found


def stage_rows(forecasts: Sequence[Sequence[Forecast]], footprints: Footprints, seconds: Seconds | None) -> list[Row]:
    """Return one row for each distinct stage of one replicate, with its schedules, its cost and its files."""
    lines: dict[tuple[str, str], dict[tuple[str, ...], list[Planned]]] = defaultdict(dict)
    askers: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    peaks: dict[tuple[str, str], int] = defaultdict(int)
    for ways in forecasts:
        for same in _aligned(ways):
            stages = [stage for stage, _ in same]
            line = (stages[0].request.kind, label_of(stages))
            lines[line][tuple(dict.fromkeys(stage.key for stage in stages))] = stages
            askers[line][ways[0].trial.schedule.name] = None
            for stage, _ in (same[0], same[-1]):  # of the largest and of the smallest choice
                footprint = footprints.of(stage)
                peaks[line] = max(peaks[line], footprint.peak if footprint else 0)
    rows = []
    for line, found in lines.items():
        row: Row = {
            "kind": line[0], "stage": line[1], "count": len(found), "schedules": list(askers[line]),
            "searched": next(iter(found.values()))[0].searched,
            "flops": _summed(found.values(), lambda stage: stage.artifact.flops),
            "stored_bytes": _summed(found.values(), lambda stage: float(stage.stored)),
            "peak_bytes": peaks[line],
        }  # fmt: skip
        rows.append(row | ({"device_seconds": _summed(found.values(), seconds)} if seconds else {}))
    return rows


def _aligned(ways: Sequence[Forecast]) -> list[list[tuple[Planned, Forecast]]]:
    """Return the stages of a trial, each as it is for every way in which its choices may fall."""
    needed = [(way.needed, way) for way in ways]
    most = max(len(stages) for stages, _ in needed)
    alike = [(stages, way) for stages, way in needed if len(stages) == most]
    return [[(stages[place], way) for stages, way in alike] for place in range(most)]


def _summed(found: Iterable[Sequence[Planned]], amount: Callable[[Planned], float]) -> dict[str, float]:
    parts = [bounds_of([amount(stage) for stage in stages]) for stages in found]
    return {bound: sum(part[bound] for part in parts) for bound in _BOUNDS}


def total_row(
    forecasts: Sequence[Sequence[Forecast]], seconds: Seconds | None, examples: Sequence[Sequence[Forecast]] = ()
) -> Row:
    """Return the cost and the files of the experiment as it stands, with every stage of all teachers and seeds once.

    Args:
        forecasts: The trials that are known.
        seconds: Returns the device-seconds of a stage, where they are wanted.
        examples: Trials at the ends of the spaces of its searches.
    """
    found: dict[tuple[str, ...], list[Planned]] = {}
    for ways in forecasts:
        for same in _aligned(ways):
            found[tuple(dict.fromkeys(stage.key for stage, _ in same))] = [stage for stage, _ in same]
    searches = searches_in(examples)
    known = {key for keys in found for key in keys}
    before = [known.union(*(search.shared for search in searches[:place])) for place in range(len(searches) + 1)]

    def whole(amount: Callable[[Planned], float]) -> Bounds:
        bounds = _summed(found.values(), amount)
        for search, counted in zip(searches, before, strict=False):
            part = search.cost(amount, lambda stage, counted=counted: stage.key not in counted)  # type: ignore[misc]
            bounds = {bound: bounds[bound] + part[bound] for bound in _BOUNDS}
        return bounds

    row: Row = {
        "stages": len(found) + len(before[-1] - known) + sum(search.stages for search in searches),
        "flops": whole(lambda stage: stage.artifact.flops),
        "stored_bytes": whole(lambda stage: float(stage.stored)),
    }
    return row | ({"device_seconds": whole(seconds)} if seconds else {})


def fit_rows(forecasts: Sequence[Sequence[Forecast]], footprints: Footprints, devices: Devices) -> list[Row]:
    """Return how the stage of each kind with the most memory fits the devices, the teacher's own apart from others."""
    return [_fit_row(*found, devices) for found in heaviest_stages(forecasts, footprints)]


def _fit_row(footprint: Footprint, stage: Planned, devices: Devices) -> Row:
    rows = stage.plan.work.rows
    row: Row = {
        "kind": stage.request.kind, "stage": label_of([stage]), "rows": rows, **asdict(footprint),
        "fewest_workers": fewest_workers(footprint, rows, devices.memory), "fit": None, "refusal": None,
    }  # fmt: skip
    try:
        row["fit"] = asdict(fit_of(footprint, stage, devices.count, devices.memory))
    except InputError as refused:
        row["refusal"] = str(refused)
    return row


def make_plan(asked: Experiment, devices: Devices, prober: Prober | None = None, price: float | None = None) -> Row:
    """Return everything that ``raydisc plan`` prints.

    Args:
        asked: The experiment.
        devices: The devices that it has to fit.
        prober: A function that times steps on the device at hand, where seconds are wanted.
        price: The price of a device-hour, where money is wanted.

    Raises:
        InputError: The experiment cannot work.
    """
    subject = inspect(asked, weights=False)
    students = student_scales(asked, subject)
    wanted = expand(asked, students)
    more = shown_beside(asked, students)
    precision = devices.precision(asked.resources)
    with tempfile.TemporaryDirectory(prefix="raydisc-plan-") as scratch:
        forecaster = Forecaster(asked, subject, Path(scratch))
        outlook = forecaster.outlook
        examples = examples_of(asked, students, forecaster)
        forecasts = [forecaster.forecasts(trial) for trial in [*wanted, *examples, *more]]
        known = len(wanted)
        pace = prober(forecasts, outlook) if prober else None
        seconds = None if pace is None else lambda stage: seconds_of(stage.plan.work, outlook, pace)
        footprints = Footprints(forecaster, precision, asked.resources.checkpointing)
        first = asked.teachers[0], asked.seeds[0]
        of_first = [ways for ways in forecasts if ways[0].trial.replicate == first]
        plan = {
            "name": asked.name,
            "task": subject.task_name,
            "notices": [
                *asked.notices(),
                *subject.notices,
                *notices_of_outputs(asked, subject, forecaster.ready.data),
            ],
            "precision": precision,
            "devices": asdict(devices),
            "candidates": candidate_rows(outlook, forecaster.ready.data, asked.grid, students),
            "stages": stage_rows(of_first, footprints, seconds),
            "schedules": schedule_rows(forecasts, [*wanted, *examples], seconds),
            "experiment": total_row(forecasts[:known], seconds, forecasts[known : known + len(examples)]),
            "fits": fit_rows(of_first, footprints, devices),
        }
    return plan | ({"probe": asdict(pace)} if pace else {}) | ({} if price is None else _priced(plan, price))


def _priced(plan: Row, price: float) -> Row:
    """Return the plan's money, that of schedules and of the whole experiment, from device-seconds."""

    def money(row: Row) -> Row:
        return row | {"money": {bound: price * row["device_seconds"][bound] / 3600 for bound in _BOUNDS}}

    schedules = [money(row) for row in plan["schedules"]]
    return {"price": price, "schedules": schedules, "experiment": money(plan["experiment"])}
