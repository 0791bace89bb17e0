"""raydisc: find the teacher assistant that gives the best small student, and what the search cost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydisc.cluster.submission import submit
    from raydisc.config.experiment import Experiment, load_experiment
    from raydisc.models.student_folder import load_student
    from raydisc.runtime.driver import run_experiment as run

__all__ = ["Experiment", "load_experiment", "load_student", "run", "submit"]

_PLACES = {
    "Experiment": ("raydisc.config.experiment", "Experiment"),
    "load_experiment": ("raydisc.config.experiment", "load_experiment"),
    "load_student": ("raydisc.models.student_folder", "load_student"),
    "run": ("raydisc.runtime.driver", "run_experiment"),
    "submit": ("raydisc.cluster.submission", "submit"),
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import raydisc` waits for neither torch nor Ray."""
    if name not in _PLACES:
        raise AttributeError(f"module 'raydisc' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
