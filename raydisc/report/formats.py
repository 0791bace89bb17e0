"""Numbers formatted for people; an unknown number is a dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from raydisc.report.intervals import Interval
from raydisc.report.summary import Estimate
from raydisc.tasks.metrics import Shown

DASH = "–"
FLOP_UNITS = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6), ("FLOP", 1.0))


def decimal(value: float | None, decimals: int = 3) -> str:
    """Return a number with a fixed number of decimals."""
    return DASH if value is None else f"{value:.{decimals}f}"


def signed(value: float | None, decimals: int = 3) -> str:
    """Return a difference with its sign, or without one if it rounds to 0."""
    if value is None:
        return DASH
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def with_error(value: float | None, error: float | None) -> str:
    """Return a metric ± its standard error over examples."""
    return decimal(value) + ("" if value is None or error is None else f" ±{error:.3f}")


def estimate(value: Estimate) -> str:
    """Return a metric averaged over replicates ± its standard error over examples."""
    return with_error(value.mean, value.se)


def derived(shown: Shown, metric: float | None) -> str:
    """Return another form of a metric, such as a perplexity."""
    if metric is None:
        return DASH
    value = shown.value(metric)
    return significant(value, 4) if math.isfinite(value) else "∞"


def interval(value: Interval | None) -> str:
    """Return a difference with its interval, with enough decimals to see on which side of 0 a bound lies."""
    if value is None:
        return DASH
    bounds = "" if value.low is None else f" [{signed(value.low, 4)}, {signed(value.high, 4)}]"
    return signed(value.mean, 4) + bounds


def points(value: Interval, unit: str = "") -> str:
    """Return a difference with its interval in points, which are hundredths of the metric.

    There is one decimal, or two where a bound would not show on which side of 0 it lies.
    """
    numbers = [100 * it for it in (value.mean, value.low, value.high) if it is not None]
    unclear = any(number and float(f"{number:.1f}") == 0 for number in numbers[1:])
    mean, *bounds = [signed(number, 2 if unclear else 1).replace("-", "−") for number in numbers]
    return mean + unit + (f" [{', '.join(bounds)}]" if bounds else "")


def within(value: Interval) -> str:
    """Return the largest difference in points, of either sign, that an interval leaves open."""
    return f"{100 * max(abs(value.low or 0.0), abs(value.high or 0.0)):.1f}"


def counted(count: int, noun: str) -> str:
    """Return a number of things with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def significant(value: float | None, digits: int = 3) -> str:
    """Return a positive number with about this number of significant digits and without an exponent."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    leading = math.floor(math.log10(abs(value))) + 1  # digits before the point; falls below 0 for small numbers
    return f"{value:,.{max(digits - leading, 0)}f}"


def times(value: float | None) -> str:
    """Return a ratio of costs."""
    return DASH if value is None else f"{value:.2f}"


def seconds(value: float | None) -> str:
    """Return seconds, with a decimal below ten."""
    return DASH if value is None else f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def flop_unit(values: Iterable[float | None]) -> tuple[str, float]:
    """Return the unit that suits the largest of several numbers of FLOPs, and the size of the unit."""
    largest = max((value for value in values if value is not None), default=0.0)
    return next((unit for unit in FLOP_UNITS if largest >= unit[1]), FLOP_UNITS[-1])


def flops(value: float | None) -> str:
    """Return a number of FLOPs with its own unit."""
    unit, size = flop_unit([value])
    return DASH if value is None else f"{significant(value / size)} {unit}"


def parameters(value: float | None) -> str:
    """Return a number of parameters in millions, or, below a tenth of one, in thousands."""
    if value is None:
        return DASH
    return f"{significant(value / 1e6)} M" if value >= 1e5 else f"{significant(value / 1e3)} k"


def scale(value: float | None) -> str:
    """Return a scale without needless digits."""
    return DASH if value is None else f"{value:g}"


def replicate(teacher_seed: int | None, seed: int | None) -> str:
    """Return the seed of a trial, and that of its teacher where there are several."""
    return f"seed {seed}" if teacher_seed is None else f"teacher {teacher_seed}, seed {seed}"


def path(scales: Sequence[float]) -> str:
    """Return the scales of a path's assistants in order; a dash for the empty path of KD."""
    return " → ".join(map(scale, scales)) or DASH


def listed(words: Sequence[str]) -> str:
    """Return words as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return DASH if value is None else f"{value:.0%}"
