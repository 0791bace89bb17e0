"""Proposals by the samplers of Optuna: each is a function of the trials before it, its number and a seed.

Optuna is imported where it is used, as most commands have no use for it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from raydisc.errors import InputError
from raydisc.schedules.optuna import OptunaOptions
from raydisc.schedules.space import Dimension

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

Direction = Literal["maximize", "minimize"]
"""What is looked for in an objective, in Optuna's words."""

_TRIES, _RANDOM_TRIES = 10, 200
"""How often a sampler is asked for a trial that is new, and how often random drawings then are."""

_NEEDS = {"tpe": ("optuna",), "gp": ("optuna", "scipy", "torch"), "nsga2": ("optuna",), "random": ("optuna",)}
"""The packages that a sampler needs."""


@dataclass(frozen=True)
class Drawn:
    """A drawing of a sampler.

    Attributes:
        values: A value of each dimension.
        notes: What the sampler notes for its next drawings.
    """

    values: Mapping[str, Any]
    notes: Mapping[str, Any]


def refuse_missing_sampler(sampler: str) -> None:
    """Refuse a sampler whose packages are not installed.

    Raises:
        InputError: A package is missing.
    """
    missing = [package for package in _NEEDS[sampler] if find_spec(package) is None]
    if missing:
        raise InputError(
            f"schedules: the sampler '{sampler}' of optuna needs the package '{missing[0]}', which is not installed "
            f"here; install it with `pip install {missing[0]}`"
        )


def draw(
    options: OptunaOptions,
    dimensions: Mapping[str, Dimension],
    history: Sequence[FrozenTrial],
    name: str,
    is_new: Callable[[Mapping[str, Any]], bool],
) -> Drawn | None:
    """Draw a new trial; the same for the same history and name. None where the space seems to have no more.

    Args:
        options: The options of the search.
        dimensions: What is drawn.
        history: The trials before it; of those that are running only the values are known.
        name: The name of the drawing, unique among all drawings of an experiment, from which its seed is made.
        is_new: Whether values stand for a trial that there is not yet.
    """
    for number in range(_TRIES + _RANDOM_TRIES):
        seed = int.from_bytes(hashlib.sha256(f"{options.seed}/{name}/{number}".encode()).digest()[:4], "big")
        at_random = number >= _TRIES
        sampler = _sampler("random" if at_random else options.sampler, seed, options.trials)
        drawn = _drawn(sampler, dimensions, () if at_random else history, objectives(options))
        if is_new(drawn.values):
            return drawn
    return None


def objectives(options: OptunaOptions) -> tuple[Direction, ...]:
    """Return the directions of what is looked for: the metric, and with nsga2 the FLOPs too."""
    return ("maximize", "minimize") if options.sampler == "nsga2" else ("maximize",)


def distributions(dimensions: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """Return dimensions as Optuna has them."""
    return {name: _distribution(one) for name, one in dimensions.items()}


def _distribution(one: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choices:
        return CategoricalDistribution(one.choices)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


def _drawn(
    sampler: BaseSampler,
    dimensions: Mapping[str, Dimension],
    history: Sequence[FrozenTrial],
    directions: Sequence[Direction],
) -> Drawn:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samplers that are new in Optuna
        study = optuna.create_study(directions=list(directions), sampler=sampler)
        study.add_trials(history)
        asked = study.ask(distributions(dimensions))
    values = {name: one.rounded(asked.params[name]) for name, one in dimensions.items()}
    return Drawn(values, study.trials[-1].system_attrs)


def _sampler(name: str, seed: int, trials: int) -> BaseSampler:
    from optuna import samplers

    quarter = trials // 4
    if name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(1, quarter)))
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=min(10, max(1, quarter)))
    if name == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=min(50, max(2, quarter)))
    return samplers.RandomSampler(seed=seed)
