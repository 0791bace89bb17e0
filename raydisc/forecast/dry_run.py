"""Driving schedules without computing their stages: what each asks for, what that costs, and what it leaves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from raydisc.config.experiment import Experiment
from raydisc.forecast.stages import FORESEE, World, even_scores, forward_cost
from raydisc.forecast.work import Work
from raydisc.models.build import config_from_dict
from raydisc.models.precision import Arithmetic
from raydisc.report.costs import Cost as SearchCost
from raydisc.report.costs import StageGraph
from raydisc.schedules.base import Choice, Trial
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import steps_of
from raydisc.stages.artifact import Artifact, Cost
from raydisc.stages.base import Stage
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import Executor, driven
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.problem import Subject
from raydisc.stages.store import ArtifactStore
from raydisc.stages.tokenise import Tokenise
from raydisc.stages.worker import Worker
from raydisc.storage.address import folder_here
from raydisc.supernet.importance import Importance as Scores

_ARITHMETIC = Arithmetic(threads=None)
"""Of the forecast's keys, by which stages are told apart; they are no run's keys."""

_CHOICES = 12
"""The most choices of a trial that are looked at, the first and the last among them."""


@dataclass(frozen=True)
class Planned:
    """A stage that a schedule will ask for.

    Attributes:
        request: it.
        artifact: the promise of what it leaves, with the facts that are known ahead and its FLOPs.
        work: what it computes.
        stored: bytes that it leaves in the storage.
    """

    request: Stage
    artifact: Artifact
    work: Work
    stored: int

    @property
    def key(self) -> str:
        """Its key; equal keys are one stage."""
        return self.artifact.key

    @property
    def searched(self) -> bool:
        """Whether it is part of the search cost."""
        return self.request.searched


@dataclass(frozen=True)
class Forecast:
    """One trial, for one way in which its choices may fall.

    Attributes:
        trial: it.
        choice: that it is taken to make.
        stages: all that it asks for, each once, in order; the student's test last.
        student: the key of its student.
    """

    trial: Trial
    choice: Choice
    stages: tuple[Planned, ...]
    student: str

    @property
    def assistants(self) -> tuple[float, ...]:
        """The scales that it is taken to choose; empty where it chooses nothing."""
        return self.choice.path

    @property
    def flops(self) -> float:
        """Of its search as if it had run alone."""
        return search_cost(self.stages, [self.student]).flops

    @property
    def needed(self) -> tuple[Planned, ...]:
        """The stages that its student depends on, and the student's test; not those that it only looks at."""
        keys = _graph(self.stages).closure([self.student])
        return tuple(stage for stage in self.stages if stage.key in keys or isinstance(stage.request, Evaluate))


def label_of(ways: Sequence[Planned]) -> str:
    """Return a stage's name for people; ``ways`` is what it is for each way in which a trial's choices may fall."""
    labels = {way.request.label() for way in ways}
    return ways[0].request.label(undecided=len(labels) > 1)


class Forecaster:
    """Foresees the trials of an experiment.

    Args:
        experiment: what is asked for.
        subject: its task and teacher.
        scratch: a folder for the tokenised data; of models it is given widths, no weights.
        scores: of the units, where they are known.
    """

    def __init__(self, experiment: Experiment, subject: Subject, scratch: Path, scores: Scores | None = None) -> None:
        """See the class."""
        self._experiment, self._subject = experiment, subject
        config = config_from_dict(subject.config)
        store = ArtifactStore(scratch)
        self.world = World(
            subject, config, forward_cost(config), store, folder_here(experiment.storage), scores or even_scores(config)
        )
        worker = Worker(store, torch.device("cpu"))
        self._executor = Executor(store, worker, _ARITHMETIC, lambda state: None, lambda *_: None)
        self._stages: dict[tuple[object, ...], Planned] = {}

    def forecasts(self, trial: Trial) -> list[Forecast]:
        """The trial, once for each way in which its choices may fall."""
        return [self._forecast(trial, choice) for choice in self._choices(trial)]

    def _forecast(self, trial: Trial, choice: Choice) -> Forecast:
        asked: dict[str, Planned] = {}
        world = self.world.choosing(choice)

        def execute(request: Stage) -> Artifact:
            stage = self._stage(request, world)
            asked[stage.key] = stage
            return stage.artifact

        outcome: Outcome = driven(steps_of(trial, self._experiment, self._subject), execute)
        data = next(stage.artifact for stage in asked.values() if isinstance(stage.request, Tokenise))
        execute(Evaluate(data, outcome.student))
        stages = tuple(asked.values())
        return Forecast(trial, choice, stages, outcome.student.key)

    def _choices(self, trial: Trial) -> Sequence[Choice]:
        """The choices that the trial may make; one empty choice where it trains no supernet."""
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
            while not isinstance(request, OnceForAll):
                request = steps.send(self._stage(request, self.world).artifact)
        except StopIteration:
            return None
        return request.scales

    def _stage(self, request: Stage, world: World) -> Planned:
        promise = request.promise(_ARITHMETIC)
        # what a supernet chooses is a fact of its artifact, not a part of its key
        name = (promise.key, world.choice if isinstance(request, OnceForAll) else None)
        if name not in self._stages:
            self._stages[name] = self._foreseen(request, promise, world)
        return self._stages[name]

    def _foreseen(self, request: Stage, promise: Artifact, world: World) -> Planned:
        if isinstance(request, Tokenise):
            artifact = self._executor.execute(request)
            return Planned(request, artifact, Work(), _stored(world.store, artifact))
        foreseen = FORESEE[type(request)](request, world)
        cost = Cost(flops=foreseen.work.flops(world.cost))
        kept = world.store.commit(promise, foreseen.facts, cost, foreseen.blobs)
        artifact = replace(kept, facts=foreseen.facts, cost=cost)
        return Planned(request, artifact, foreseen.work, foreseen.stored + _stored(world.store, artifact))


def _stored(store: ArtifactStore, artifact: Artifact) -> int:
    return sum(store.path(artifact, name).stat().st_size for name in artifact.blobs)


def search_cost(
    stages: Iterable[Planned], ends: Iterable[str], seconds: Callable[[Planned], float] = lambda stage: 0.0
) -> SearchCost:
    """The cost of the search that ends with stages of these keys, as the ledger would count it."""
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
