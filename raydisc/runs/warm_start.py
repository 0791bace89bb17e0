"""What a search knows from an earlier run: that run's finished trials, as far as the space has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raydisc.config.experiment import Experiment, load_experiment
from raydisc.errors import InputError
from raydisc.models.precision import Arithmetic
from raydisc.report.costs import StageGraph, cost_of, total
from raydisc.report.schedules import is_control
from raydisc.runs.folder import RESOLVED
from raydisc.runs.sources import Asked
from raydisc.schedules.foresight import foresee, knowing
from raydisc.schedules.minidisc import Minidisc
from raydisc.schedules.optuna import Optuna
from raydisc.schedules.space import Point, Space, values_of
from raydisc.schedules.trials import preparation, steps_of
from raydisc.stages.store import ArtifactStore

_SHARED = ("task", "teacher", "grid")
"""The sections that two runs share whose trials can be compared."""

_OF_STUDENT, _OF_SUPERNET = ("config",), ("config", "lam", "scales", "objective")
"""What has to be the same of the stage of a student, and of that of its supernet."""


@dataclass(frozen=True)
class Observation:
    """A finished trial of an earlier run.

    Attributes:
        name: Its name.
        values: A value of each dimension of the space.
        metric: The validation metric of its student.
        flops: The FLOPs of its own stages.
    """

    name: str
    values: Mapping[str, Any]
    metric: float
    flops: float


def earlier_experiment(asked: Asked, run: str) -> Experiment:
    """Return the experiment of an earlier run after checking that its trials can be compared.

    Raises:
        InputError: There is no such run, or it has another task, teacher or grid.
    """
    if run == asked.experiment.name:
        raise InputError(f"schedules: 'warm_start' of {asked.schedule.name} names this run itself, '{run}'")
    folder = asked.storage / run
    folder.fetch_again(RESOLVED)
    if not folder.has(RESOLVED):
        raise InputError(
            f"schedules: 'warm_start' of {asked.schedule.name} names the run '{run}', which is not in the storage "
            f"'{asked.experiment.storage}'"
        )
    earlier = load_experiment(folder.path(RESOLVED))
    for section in _SHARED:
        if getattr(earlier, section) != getattr(asked.experiment.with_absolute_paths(), section):
            raise InputError(
                f"schedules: 'warm_start' of {asked.schedule.name} names the run '{run}', whose '{section}' is "
                "another, so that its trials cannot be compared"
            )
    return earlier


def observations(asked: Asked, schedule: Optuna, run: str) -> list[Observation]:
    """Return the trials of an earlier run that a search could have proposed, for any seed, by name.

    Args:
        asked: The circumstances of the search.
        schedule: The search.
        run: The earlier run.
    """
    earlier = earlier_experiment(asked, run)
    same = {"student_scale": asked.student_scale, "teacher_seed": asked.teacher_seed}
    rows = asked.ledger.rows("trials", run=run, state="finished")
    trials = [row for row in rows if {name: row[name] for name in same} == same]
    graph = StageGraph(asked.ledger.rows("stages"))
    found = []
    for row in sorted(trials, key=lambda row: str(row["trial"])):
        point = _point(row, graph, earlier, schedule.options.space)
        values = None if point is None else values_of(point, schedule.options.space, asked.above)
        if point is not None and values is not None and _is_trained_so(row, graph, asked, schedule, point):
            flops = _own_flops(graph, row["student"])
            found.append(Observation(row["trial"], values, row["validation_metric"], flops))
    return found


def _point(row: Mapping[str, Any], graph: StageGraph, earlier: Experiment, space: Space) -> Point | None:
    """Return the point that a trial stands for; None where it did something that no point stands for."""
    student, supernet = (graph.stages.get(row[name]) for name in ("student", "supernet"))
    if student is None or row["validation_metric"] is None or is_control(row["schedule"]):
        return None
    does_as_minidisc = supernet is not None
    if does_as_minidisc and (row["schedule"] not in (Minidisc.name, Optuna.name) or len(row["path"]) != 1):
        return None
    of_student = json.loads(student["settings"])
    if of_student.get("budget_flops") is not None or does_as_minidisc is (of_student.get("instead_of") is None):
        return None
    kept = {"distillation": of_student["config"] | _initialisation(row)}
    if supernet is not None:
        kept["once_for_all"] = json.loads(supernet["settings"])["config"]
    settings = {name: _value(kept, earlier, name) for name in space if name.partition(".")[0] in kept}
    path = () if does_as_minidisc else tuple(row["path"])
    return Point(path, row["lam"] if does_as_minidisc else None, settings)


def _initialisation(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the setting that no stage has; a trial without an assistant does not depend on it."""
    if not row["path"]:
        return {}
    return {"initialisation": "teacher" if row["initialisation"] == "teacher" else "supernet"}


def _value(kept: Mapping[str, Mapping[str, Any]], earlier: Experiment, name: str) -> Any:
    """Return the value of a setting in what the ledger has of a stage, else in the run's experiment."""
    section, field, *key = name.split(".", 2)
    value = kept[section].get(field, getattr(getattr(earlier, section), field))
    return value.get(key[0], 0.0) if key else value


def _is_trained_so(row: Mapping[str, Any], graph: StageGraph, asked: Asked, schedule: Optuna, point: Point) -> bool:
    """Whether the stages of a trial were trained as the search would have trained those of a point."""
    alike = _settings(graph, row["student"], _OF_STUDENT) == _foreseen(
        asked, schedule, replace(point, lam=None), row["seed"], _OF_STUDENT
    )
    if row["supernet"] is None or not alike:
        return alike
    found = _settings(graph, row["supernet"], _OF_SUPERNET)
    return found == _foreseen(asked, schedule, point, row["seed"], _OF_SUPERNET)


def _settings(graph: StageGraph, key: str, names: Sequence[str]) -> dict[str, Any]:
    settings = json.loads(graph.stages[key]["settings"])
    return {name: settings.get(name) for name in names}


def _foreseen(asked: Asked, schedule: Optuna, point: Point, seed: int, names: Sequence[str]) -> dict[str, Any] | None:
    """Return settings of the last stage of a trial that is foreseen; None where the trial could not be run."""
    trial = replace(schedule.trial_at(point, asked.student_scale, seed), teacher_seed=asked.teacher_seed)
    arithmetic = Arithmetic(threads=None)
    tokenise = next(preparation(asked.experiment, asked.subject, asked.experiment.teachers[0]))
    data = ArtifactStore(asked.storage).find(tokenise.key(arithmetic))
    if data is None:
        return None
    try:
        stages = foresee(steps_of(trial, asked.experiment, asked.subject), arithmetic, knowing(data))
    except InputError:
        return None
    settings = json.loads(json.dumps(stages[-1][0].settings()))
    return {name: settings.get(name) for name in names}


def _own_flops(graph: StageGraph, student: str) -> float:
    """Return the FLOPs of the stages of a trial that come after the preparation, whose last one is importance."""
    importance = json.loads(graph.stages[student]["settings"])["importance"]
    own = graph.closure([student]) - graph.closure([importance])
    return total(cost_of(graph.stages[key]) for key in sorted(own)).flops
