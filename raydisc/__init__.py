"""raydisc: find the teacher assistant that gives the best small student, and measure what the search cost.

The names in ``__all__`` are the public interface. Each is imported when it is first used, so that ``import raydisc``
waits for neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydisc.cluster.submission import submit
    from raydisc.config.experiment import Experiment, load_experiment
    from raydisc.config.schedules import ScheduleOptions
    from raydisc.errors import InputError, StorageError
    from raydisc.families.base import Family
    from raydisc.families.registry import FAMILIES
    from raydisc.losses import LOSSES
    from raydisc.losses.base import Loss
    from raydisc.models.student_folder import load_student
    from raydisc.runs.proposals import Proposals, TrialResult
    from raydisc.runtime.driver import RunResult
    from raydisc.runtime.driver import check_experiment as validate
    from raydisc.runtime.driver import run_experiment as run
    from raydisc.runtime.planning import forecast as plan
    from raydisc.schedules import SCHEDULES
    from raydisc.schedules.base import Choice, Control, Mark, Schedule, Trial
    from raydisc.schedules.search import Search
    from raydisc.schedules.steps import Outcome
    from raydisc.stages.artifact import Model
    from raydisc.tasks.metrics import METRICS, Metric
    from raydisc.tasks.named import TASKS, Task
    from raydisc.tasks.source import TaskSource

    __version__: str

__all__ = [
    "FAMILIES",
    "LOSSES",
    "METRICS",
    "SCHEDULES",
    "TASKS",
    "Choice",
    "Control",
    "Experiment",
    "Family",
    "InputError",
    "Loss",
    "Mark",
    "Metric",
    "Model",
    "Outcome",
    "Proposals",
    "RunResult",
    "Schedule",
    "ScheduleOptions",
    "Search",
    "StorageError",
    "Task",
    "TaskSource",
    "Trial",
    "TrialResult",
    "__version__",
    "load_experiment",
    "load_student",
    "plan",
    "run",
    "submit",
    "validate",
]

_PLACES = {
    "FAMILIES": "raydisc.families.registry:FAMILIES",
    "LOSSES": "raydisc.losses:LOSSES",
    "METRICS": "raydisc.tasks.metrics:METRICS",
    "SCHEDULES": "raydisc.schedules:SCHEDULES",
    "TASKS": "raydisc.tasks.named:TASKS",
    "Choice": "raydisc.schedules.base:Choice",
    "Control": "raydisc.schedules.base:Control",
    "Experiment": "raydisc.config.experiment:Experiment",
    "Family": "raydisc.families.base:Family",
    "InputError": "raydisc.errors:InputError",
    "Loss": "raydisc.losses.base:Loss",
    "Mark": "raydisc.schedules.base:Mark",
    "Metric": "raydisc.tasks.metrics:Metric",
    "Model": "raydisc.stages.artifact:Model",
    "Outcome": "raydisc.schedules.steps:Outcome",
    "Proposals": "raydisc.runs.proposals:Proposals",
    "RunResult": "raydisc.runtime.driver:RunResult",
    "Schedule": "raydisc.schedules.base:Schedule",
    "ScheduleOptions": "raydisc.config.schedules:ScheduleOptions",
    "Search": "raydisc.schedules.search:Search",
    "StorageError": "raydisc.errors:StorageError",
    "Task": "raydisc.tasks.named:Task",
    "TaskSource": "raydisc.tasks.source:TaskSource",
    "Trial": "raydisc.schedules.base:Trial",
    "TrialResult": "raydisc.runs.proposals:TrialResult",
    "load_experiment": "raydisc.config.experiment:load_experiment",
    "load_student": "raydisc.models.student_folder:load_student",
    "plan": "raydisc.runtime.planning:forecast",
    "run": "raydisc.runtime.driver:run_experiment",
    "submit": "raydisc.cluster.submission:submit",
    "validate": "raydisc.runtime.driver:check_experiment",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        return import_module("importlib.metadata").version("raydisc")
    if name not in _PLACES:
        raise AttributeError(f"module 'raydisc' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """Return the public names, for completion in a notebook."""
    return __all__
