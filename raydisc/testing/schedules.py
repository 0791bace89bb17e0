"""The contract of a schedule, as tests.

Derive from ``ScheduleContract`` in a test module and define the fixture ``schedule``::

    class TestMySchedule(ScheduleContract):
        @pytest.fixture
        def schedule(self):
            return MySchedule(MyOptions())

The tests run the schedule's first trial in this process on a tiny experiment, which the fixture ``experiment`` may
replace.
"""

import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any

import pytest

from raydisc.config.experiment import Experiment
from raydisc.config.schedules import ScheduleConfig
from raydisc.forecast.dry_run import Forecaster
from raydisc.report.costs import StageGraph
from raydisc.schedules import SCHEDULES
from raydisc.schedules.base import Control, Schedule, Trial
from raydisc.schedules.foresight import foresee, knowing
from raydisc.schedules.steps import scales_above
from raydisc.schedules.trials import steps_of
from raydisc.stages.importance import read_scores
from raydisc.stages.problem import inspect
from raydisc.testing.runs import ONE_THREAD, STUDENT_SCALE, Ran, run_trial, tiny_experiment

_FOREIGN = re.compile(
    r"(ray|torch|os|io|pathlib|shutil|tempfile|subprocess|raydisc\.(runtime|runs|storage|stages\.(store|files)))(\.|$)"
)
"""The modules that a schedule has no use for: it asks for stages, and others compute and keep them."""


@cache
def _storage() -> TemporaryDirectory[str]:
    """Return a folder that all contracts share, so that the teacher is trained once."""
    return TemporaryDirectory(prefix="raydisc-contracts-")


@cache
def _ran(experiment: str, trial: Trial) -> Ran:
    return run_trial(Experiment.model_validate_json(experiment), trial, Path(_storage().name))


class ScheduleContract:
    """The tests that every schedule has to pass; a subclass defines the fixture ``schedule``."""

    @pytest.fixture
    def experiment(self) -> Experiment:
        """Return the experiment that the schedule is tried on."""
        return tiny_experiment()

    @pytest.fixture
    def trials(self, schedule: Schedule[Any], experiment: Experiment) -> list[Trial]:
        """Return the schedule's trials, or some where they are proposed; those of a control are its rival's."""
        own = schedule.rival if isinstance(schedule, Control) else schedule
        above = scales_above(experiment.grid.scales, STUDENT_SCALE)
        made = list(own.examples(above, STUDENT_SCALE, 0))
        return made if own is schedule else [replace(trial, schedule=schedule) for trial in made]

    @pytest.fixture
    def ran(self, trials: list[Trial], experiment: Experiment) -> Ran:
        """Return the schedule's first trial, run once for all tests."""
        return _ran(experiment.model_dump_json(), trials[0])

    def test_it_is_registered_under_its_name(self, schedule: Schedule[Any]) -> None:
        """Experiment files, the ledger and folders use the name, and reports find the class by it."""
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,49}", schedule.name)
        assert SCHEDULES.get(schedule.name) is type(schedule)

    def test_an_experiment_file_may_name_it(self, schedule: Schedule[Any]) -> None:
        """Read back with its options written out it is equal; a control cannot be named."""
        written = {schedule.name: schedule.options.model_dump(mode="json")}
        if schedule.is_control:
            with pytest.raises(ValueError, match="unknown schedule"):
                ScheduleConfig.model_validate(written)
        else:
            read = ScheduleConfig.model_validate(written)
            assert read.schedule() == schedule
            assert ScheduleConfig.model_validate(read.model_dump(mode="json")) == read

    def test_it_travels_to_other_processes(self, trials: list[Trial]) -> None:
        """A trial that is pickled and read back is equal and has the same name."""
        copies = pickle.loads(pickle.dumps(trials))
        assert copies == trials
        assert [copy.name for copy in copies] == [trial.name for trial in trials]
        assert hash(copies[0]) == hash(trials[0])

    def test_trials_have_names_of_their_own_that_fit_a_folder(
        self, schedule: Schedule[Any], trials: list[Trial]
    ) -> None:
        """One word that begins with the schedule's name."""
        names = [trial.name for trial in trials]
        assert names
        assert len(set(names)) == len(names)
        for name in names:
            assert name.startswith(schedule.name)
            assert re.fullmatch(r"[a-z][A-Za-z0-9._-]{0,199}", name)

    def test_all_trials_have_the_label_of_the_schedule(self, schedule: Schedule[Any], trials: list[Trial]) -> None:
        """Reports tell the rows of one schedule from those of others by the label, which begins with the name."""
        assert {trial.schedule.label for trial in trials} == {schedule.label}
        assert re.fullmatch(rf"{schedule.name}(-[A-Za-z0-9._-]+)?", schedule.label)
        if isinstance(schedule, Control):
            assert schedule.label == schedule.label_beside(type(schedule.rival), schedule.rival.label)

    def test_trials_are_for_the_student_and_the_seed(self, schedule: Schedule[Any], experiment: Experiment) -> None:
        """Another seed or another student makes other trials of the same number for the same grid."""
        if isinstance(schedule, Control):
            return  # Its trials are made beside those of its rival.
        above = scales_above(experiment.grid.scales, STUDENT_SCALE)
        made = [list(schedule.examples(above, STUDENT_SCALE, seed)) for seed in (0, 7)]
        assert len(made[0]) == len(made[1])
        assert {(trial.student_scale, trial.seed) for trial in made[1]} == {(STUDENT_SCALE, 7)}
        assert not {trial.name for trial in made[0]} & {trial.name for trial in made[1]}

    def test_its_trials_are_made_or_proposed(self, schedule: Schedule[Any], experiment: Experiment) -> None:
        """A schedule whose trials are proposed names the source, and makes none itself."""
        if isinstance(schedule, Control):
            return  # Its trials are made beside those of its rival.
        made = list(schedule.trials(scales_above(experiment.grid.scales, STUDENT_SCALE), STUDENT_SCALE, 0))
        if not schedule.source:
            assert made
        else:
            assert not made
            module, _, name = schedule.source.partition(":")
            kind = getattr(import_module(module), name)
            assert callable(kind.refuse)
            assert callable(kind.begin)

    def test_it_refuses_a_grid_without_room(self, schedule: Schedule[Any], experiment: Experiment) -> None:
        """The refusal is one sentence; the experiment's grid is accepted."""
        assert schedule.refusal(experiment.grid.scales, STUDENT_SCALE) is None
        if schedule.assistants:
            sentence = schedule.refusal([STUDENT_SCALE], STUDENT_SCALE)
            assert sentence
            assert "\n" not in sentence
            assert not sentence.endswith(".")

    def test_it_asks_for_the_same_stages_every_time(self, ran: Ran, experiment: Experiment) -> None:
        """Run again, it finds every stage, and comes to the same outcome."""
        again = run_trial(experiment, ran.trial, Path(_storage().name))
        assert [artifact.key for _, artifact in again.stages] == [artifact.key for _, artifact in ran.stages]
        assert again.computed == 0
        assert again.outcome == ran.outcome

    def test_stages_are_foreseen_as_far_as_they_depend_on_no_result(self, ran: Ran, experiment: Experiment) -> None:
        """The stages foreseen where the task is tokenised are those asked for first, the preparation at least."""
        data = next(artifact for stage, artifact in ran.stages if stage.kind == "tokenise")
        found = foresee(steps_of(ran.trial, experiment, inspect(experiment)), ONE_THREAD, knowing(data))
        foreseen = list(dict.fromkeys(artifact.key for _, artifact in found))
        asked = [artifact.key for _, artifact in ran.stages]
        assert foreseen == asked[: len(foreseen)]
        prepared = [artifact.key for stage, artifact in ran.stages if stage.prepares]
        assert set(prepared) <= set(foreseen)

    def test_the_student_comes_last(self, ran: Ran) -> None:
        """It is the last stage asked for, has the student's scale and was evaluated."""
        student = ran.outcome.student
        assert ran.stages[-1][1] == student == ran.outcome.own[-1]
        assert student["scale"] == STUDENT_SCALE
        assert student["evaluations"]
        assert ran.outcome.initialisation in {"teacher", "assistant", "supernet", "student"}

    def test_assistants_fall_to_the_student(self, ran: Ran) -> None:
        """The path falls from the teacher to the student, both left out."""
        scales = (1.0, *ran.outcome.path, STUDENT_SCALE)
        assert all(later < earlier for earlier, later in zip(scales, scales[1:], strict=False))

    def test_what_it_asks_for_is_what_it_is_charged(self, ran: Ran) -> None:
        """The search cost counts the stages that the student and the deciding supernet depend on, and no others.

        A control may look at its rival, which it is not charged for.
        """
        rows = [
            {
                "key": artifact.key, "kind": stage.kind, "state": "finished", "inputs": artifact.inputs,
                "flops": artifact.flops, "device_seconds": 0.0, "wall_seconds": 0.0, "cpu_seconds": 0.0,
            }
            for stage, artifact in ran.stages
        ]  # fmt: skip
        supernet = ran.outcome.supernet
        charged = StageGraph(rows).searched([ran.outcome.student.key, *([supernet.key] if supernet else [])])
        prepared = {artifact.key for stage, artifact in ran.stages if stage.prepares}
        assert {artifact.key for artifact in ran.outcome.own} == charged - prepared
        asked = {artifact.key for stage, artifact in ran.stages if stage.searched}
        if not ran.trial.schedule.is_control:
            assert asked == charged
        assert charged <= asked

    def test_the_plan_is_what_is_run(self, ran: Ran, experiment: Experiment, tmp_path: Path) -> None:
        """One of the choices that ``raydisc plan`` looks at asks for the same stages, of the same FLOPs."""
        if ran.trial.schedule.timed:
            pytest.skip("its stages follow from measured seconds")
        importance = next(artifact for stage, artifact in ran.stages if stage.kind == "importance")
        scores = read_scores(ran.store, importance)
        forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path, scores)
        planned = [
            [(stage.request.kind, stage.artifact.flops) for stage in forecast.stages[:-1]]
            for forecast in forecaster.forecasts(ran.trial)
        ]
        asked = [(stage.kind, artifact.flops) for stage, artifact in ran.stages]
        assert asked in planned, "the plan does not foresee this path: does `choices` list it?"

    def test_choices_lie_between_teacher_and_student(self, ran: Ran) -> None:
        """Its choices are of its supernet's candidates, if it trains one, and differ."""
        for stage, _ in ran.stages:
            if stage.kind == "once_for_all":
                scales = tuple(stage.settings()["scales"])
                choices = ran.trial.schedule.choices(scales)
                assert choices
                assert len(set(choices)) == len(choices)
                assert all(set(choice.path) <= set(scales[:-1]) for choice in choices)
                assert all(0 <= metric <= 1 for choice in choices for _, metric in choice.metrics)

    def test_it_knows_neither_ray_nor_devices_nor_files(self, schedule: Schedule[Any]) -> None:
        """Its methods use no module that computes, keeps or distributes anything."""
        for function in _functions(type(schedule)):
            for name in _names(function.__code__):
                used = function.__globals__.get(name)
                home = getattr(used, "__module__", None) or getattr(used, "__name__", "")
                assert not _FOREIGN.match(str(home)), f"{function.__qualname__} uses {name} of {home}"
            assert "open" not in _names(function.__code__), f"{function.__qualname__} opens a file"


def _functions(kind: type) -> Iterator[Callable[..., Any]]:
    """Yield the functions that a class and its bases define."""
    for base in kind.__mro__[:-1]:
        for member in vars(base).values():
            unwrapped = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if hasattr(unwrapped, "__code__"):
                yield unwrapped


def _names(code: CodeType) -> set[str]:
    """Return the global names and attributes that code uses, that of functions inside included."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))
