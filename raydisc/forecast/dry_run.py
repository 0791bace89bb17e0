"""Driving schedules without computing their stages: the stages they ask for, with their costs and their files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from raydisc.config.experiment import Experiment
from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.models.build import build, config_from_dict
from raydisc.models.cost import ForwardCost
from raydisc.models.precision import Arithmetic
from raydisc.models.structure import full_structure
from raydisc.report.costs import Cost as SearchCost
from raydisc.report.costs import StageGraph
from raydisc.schedules.base import Choice, Trial
from raydisc.schedules.search import Ready
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import preparation, steps_of
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.base import Stage
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import Executor, driven
from raydisc.stages.kinds import kind_named
from raydisc.stages.plan import Outlook, Plan
from raydisc.stages.problem import Subject
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.supernet.importance import Importance as Scores

_ARITHMETIC = Arithmetic(threads=None)
"""The arithmetic in the forecast's keys, which only distinguish stages and are not the keys of a run."""

_CHOICES = 12
"""The most choices of a trial that are looked at, the first and the last among them."""


@dataclass(frozen=True)
class Planned:
    """A stage that a schedule will ask for.

    Attributes:
        request: The stage.
        artifact: The promise of its artifact, with the facts that are known ahead and its FLOPs.
        plan: What it will do.
        stored: The bytes that it leaves in the storage.
    """

    request: Stage
    artifact: Artifact
    plan: Plan
    stored: int

    @property
    def key(self) -> str:
        """The stage's key; equal keys are one stage."""
        return self.artifact.key

    @property
    def searched(self) -> bool:
        """Whether the stage is part of the search cost."""
        return self.request.searched


@dataclass(frozen=True)
class Forecast:
    """One trial, for one way in which its choices may fall.

    Attributes:
        trial: The trial.
        choice: The choice that the trial is assumed to make.
        stages: The stages that it asks for, each once, in order; the test of its student, if it leaves one, comes last.
        ends: The keys of its student and of the supernet that decided, on which the search cost depends.
    """

    trial: Trial
    choice: Choice
    stages: tuple[Planned, ...]
    ends: tuple[str, ...]

    @property
    def assistants(self) -> tuple[float, ...]:
        """The scales of the assistants in that choice; empty where the trial chooses nothing."""
        return self.choice.path

    @property
    def flops(self) -> float:
        """The FLOPs of its search as if it had run alone."""
        return search_cost(self.stages, self.ends).flops

    @property
    def needed(self) -> tuple[Planned, ...]:
        """The stages that its student depends on and the student's test, without stages that it only compares with."""
        keys = _graph(self.stages).closure(self.ends)
        return tuple(stage for stage in self.stages if stage.key in keys or kind_named(stage.request.kind).tests)


def label_of(ways: Sequence[Planned]) -> str:
    """Return a stage's name for people; ``ways`` is what it is for each way in which a trial's choices may fall."""
    labels = {way.request.label() for way in ways}
    return ways[0].request.label(undecided=len(labels) > 1)


class Forecaster:
    """A planner of an experiment's trials.

    Args:
        experiment: The experiment.
        subject: Its task and teacher.
        scratch: A folder for the tokenised data and for the structures of models, without weights.
        scores: The importance of the units, where it is known.
    """

    def __init__(self, experiment: Experiment, subject: Subject, scratch: Path, scores: Scores | None = None) -> None:
        """See the class."""
        self._experiment, self._subject = experiment, subject
        config = config_from_dict(subject.config)
        store = ArtifactStore(scratch)
        self.outlook = Outlook(
            config,
            forward_cost(config),
            store,
            teacher_parameters=subject.teacher_parameters,
            scores=scores or even_scores(config),
        )
        worker = Worker(store, torch.device("cpu"))
        self._executor = Executor(store, worker, _ARITHMETIC, lambda state: None, lambda *_: None)
        self._stages: dict[tuple[object, ...], Planned] = {}

    @cached_property
    def ready(self) -> Ready:
        """The promised preparation by the first teacher, whose data all trials share, whatever they ask for first."""
        steps = preparation(self._experiment, self._subject, self._experiment.teachers[0])
        return driven(steps, lambda request: self._stage(request, self.outlook).artifact)

    def forecasts(self, trial: Trial) -> list[Forecast]:
        """Return one forecast of a trial for each way in which its choices may fall."""
        return [self._forecast(trial, choice) for choice in self._choices(trial)]

    def price(self, trial: Trial) -> list[list[Artifact]]:
        """Foresee the stages that a trial's search is charged for; see ``raydisc.schedules.base.Price``."""
        return [[stage.artifact for stage in way.needed if stage.searched] for way in self.forecasts(trial)]

    def _forecast(self, trial: Trial, choice: Choice) -> Forecast:
        asked: dict[str, Planned] = {}
        outlook = replace(self.outlook, metrics=dict(choice.metrics))

        def execute(request: Stage) -> Artifact:
            stage = self._stage(request, outlook)
            asked[stage.key] = stage
            return stage.artifact

        outcome: Outcome = driven(steps_of(trial, self._experiment, self._subject), execute)
        if trial.leaves_student:
            execute(Evaluate(self.ready.data, outcome.student))
        stages = tuple(asked.values())
        ends = (outcome.student, *([outcome.supernet] if outcome.supernet else []))
        return Forecast(trial, choice, stages, tuple(artifact.key for artifact in ends))

    def _choices(self, trial: Trial) -> Sequence[Choice]:
        """Return the choices that a trial may make; one empty choice where it trains no supernet."""
        scales = self._scales_of_supernet(trial)
        if scales is None:
            return [Choice()]
        found = trial.schedule.choices(scales)
        if len(found) > _CHOICES:
            found = [found[round(place * (len(found) - 1) / (_CHOICES - 1))] for place in range(_CHOICES)]
        return found

    def _scales_of_supernet(self, trial: Trial) -> tuple[float, ...] | None:
        steps = steps_of(trial, self._experiment, self._subject)
        request = next(steps)
        try:
            while not request.scales_to_choose:
                request = steps.send(self._stage(request, self.outlook).artifact)
        except StopIteration:
            return None
        return request.scales_to_choose

    def _stage(self, request: Stage, outlook: Outlook) -> Planned:
        promise = request.promise(_ARITHMETIC)
        # a supernet's choice is a fact of its artifact, not a part of its key
        choice = tuple(outlook.metrics.items()) if request.scales_to_choose else ()
        name = (promise.key, choice)
        if name not in self._stages:
            self._stages[name] = self._planned(request, promise, outlook)
        return self._stages[name]

    def _planned(self, request: Stage, promise: Artifact, outlook: Outlook) -> Planned:
        plan = request.plan(outlook)
        if plan is None:
            artifact = self._executor.execute(request)
            return Planned(request, artifact, Plan(artifact.facts or {}), _stored(outlook.store, artifact))
        cost = Cost(flops=plan.work.flops(outlook.cost))
        kept = outlook.store.commit(promise, plan.facts, cost, plan.files)
        artifact = replace(kept, facts=plan.facts, cost=cost)
        return Planned(request, artifact, plan, plan.stored + _stored(outlook.store, artifact))


def even_scores(config: Config) -> Scores:
    """Return scores with which every candidate keeps the same share of each layer, to the unit."""

    def falling(count: int) -> torch.Tensor:
        return torch.linspace(1.0, 1.0 / count, count)

    layers = layers_of(config)
    return Scores(
        tuple(falling(units.heads.count) for units in layers), tuple(falling(units.neurons.count) for units in layers)
    )


def forward_cost(config: Config) -> ForwardCost:
    """Return the cost of the teacher's forward, from its shapes."""
    with torch.device("meta"):
        return ForwardCost.of(build(config, full_structure(config)), config)


def _stored(store: ArtifactStore, artifact: Artifact) -> int:
    return sum(store.path(artifact, name).stat().st_size for name in artifact.blobs)


def search_cost(
    stages: Iterable[Planned], ends: Iterable[str], seconds: Callable[[Planned], float] = lambda stage: 0.0
) -> SearchCost:
    """Return the cost of the search that ends with stages of these keys, as the ledger would count it."""
    return _graph(stages, seconds).search_cost(ends)


def _graph(stages: Iterable[Planned], seconds: Callable[[Planned], float] = lambda stage: 0.0) -> StageGraph:
    rows = [
        {
            "key": stage.key, "kind": stage.request.kind, "state": "finished", "inputs": stage.artifact.inputs,
            "flops": stage.artifact.cost.flops, "device_seconds": seconds(stage), "wall_seconds": 0.0,
            "cpu_seconds": 0.0,
        }
        for stage in stages
    ]  # fmt: skip
    return StageGraph(rows)
