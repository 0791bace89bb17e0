"""``raydisc recommend``: an experiment file with a budget in place of its schedules."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING

from raydisc.config.experiment import Experiment, checked_run_name
from raydisc.config.schedules import ScheduleConfig
from raydisc.errors import InputError

if TYPE_CHECKING:
    from raydisc.runtime.driver import RunResult


def recommending(options: argparse.Namespace, experiment: Experiment) -> Experiment:
    """Return the experiment that spends the budget of the command's options, and print what was understood of it.

    Args:
        options: The options of the command.
        experiment: The experiment of the file.

    Raises:
        InputError: The budget is not a positive number, or there is money without a price.
    """
    _refuse(options)
    from raydisc.schedules.recommend import RecommendOptions
    from raydisc.stages.problem import inspect, student_scales

    count = len(student_scales(experiment, inspect(experiment, weights=False)))
    count *= len(experiment.teachers) * len(experiment.seeds)
    flops, how = _total(options, experiment)
    each = "" if count == 1 else f", {flops / count:.4g} for each of {count} students, teachers and seeds"
    print(f"budget: {flops:.4g} FLOPs{how}{each}", file=sys.stderr)
    known = next((it.options for it in experiment.schedules if isinstance(it.options, RecommendOptions)), None)
    written = {} if known is None else known.model_dump(mode="json")
    schedule = ScheduleConfig.model_validate({"recommend": {**written, "budget_flops": flops / count}})
    named = any(text.partition("=")[0].strip() == "name" for text in options.overrides)
    name = options.name or (experiment.name if named else f"{experiment.name}-recommend")
    return experiment.model_copy(update={"name": checked_run_name(name), "schedules": [schedule]})


def _refuse(options: argparse.Namespace) -> None:
    """Refuse an amount that is not a budget."""
    for name in ("flops", "hours", "money", "price"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"`--{name}` must be a number above 0, but is {value:g}")
    if options.money is not None and options.price is None:
        raise InputError("`--money` needs `--price`, the price of a device-hour, to know how many hours it buys")
    if options.price is not None and options.money is None:
        raise InputError("`--price` belongs to `--money`, but the budget is given in other units; leave it out")


def _total(options: argparse.Namespace, experiment: Experiment) -> tuple[float, str]:
    """Return the FLOPs of the whole budget, and in words how they follow from hours or money."""
    if options.flops is not None:
        return float(options.flops), ""
    from raydisc.runtime.planning import measured_rate

    hours = options.hours if options.money is None else options.money / options.price
    rate = measured_rate(experiment)
    bought = "" if options.money is None else f"{options.money:g} at {options.price:g} a device-hour buy "
    return (
        3600 * hours * rate,
        f" ({bought}{hours:.4g} hours of one device at {rate:.3g} FLOPs a second, measured here)",
    )


def print_recommendations(experiment: Experiment, result: RunResult, plain: bool, as_json: bool) -> None:
    """Print the pages of a finished run, and where its files are.

    Args:
        experiment: The experiment.
        result: The result of its run.
        plain: Whether nothing is coloured.
        as_json: Whether the pages are printed as JSON alone.
    """
    from raydisc.report.recommendation_text import page_sheet
    from raydisc.report.table import print_sheets

    pages = result.show["recommendations"]
    if as_json:
        print(json.dumps(pages, indent=2))
        return
    print_sheets([page_sheet(page) for page in pages], sys.stdout, plain)
    for name, place in result.places.items():
        print(f"{name}: {place}")
