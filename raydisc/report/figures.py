"""The report's figures. They are drawn without a display and keep no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from raydisc.report import formats
from raydisc.report.rows import grouped
from raydisc.report.schedules import is_control, mark_of, reference_schedule
from raydisc.report.summary import Summary, spread
from raydisc.schedules.base import Mark

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#666666",
)  # fmt: skip
"""Okabe and Ito's colours, which people with any colour vision can tell apart."""

OTHERS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
"""The colours of lines and marks that would be alike."""

STYLE: Any = {
    "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "legend.frameon": False, "svg.hashsalt": "raydisc", "lines.markersize": 5.0,
}  # fmt: skip


def render(figure: Figure, kind: Literal["svg", "png"] = "svg") -> bytes:
    """Return the figure as a file's bytes; the same figure always gives the same bytes."""
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return stream.getvalue()


def candidates_figure(
    candidates: Sequence[Mapping[str, Any]], students: Mapping[float, tuple[float, float | None]], title: str
) -> Figure:
    """Draw metric, tradeoff and win share of each candidate against its scale, for one student scale.

    Args:
        candidates: Candidates as ``raydisc.report.show.show`` gives them, of one student scale and λ, any seeds.
        students: Scale of an assistant → (test metric of the student distilled through it, its standard error).
        title: The title of the figure.
    """
    by_scale = dict(sorted(grouped(candidates, lambda c: c["scale"]).items()))
    scales = list(by_scale)
    lam = candidates[0]["lam"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 5.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _curve(upper, by_scale, "tradeoff", GREEN, "s--", f"tradeoff m + {lam:g}(1 − s)")
        _curve(upper, by_scale, "metric", BLUE, "o-", "candidate's validation metric m")
        if students:
            upper.errorbar(
                sorted(students),
                [students[scale][0] for scale in sorted(students)],
                yerr=[students[scale][1] or 0.0 for scale in sorted(students)],
                color=ORANGE, fmt="^:", capsize=2, label="test metric of the student through it",
            )  # fmt: skip
        best = max(by_scale, key=lambda s: (np.mean([c["tradeoff"] for c in by_scale[s]]), -s))
        upper.axvline(best, color=GREEN, alpha=0.25, linewidth=6, zorder=0)
        upper.set_ylabel("metric, tradeoff")
        upper.set_title(title, loc="left")
        upper.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3 if students else 2, fontsize=8)
        shares = [[c["win_share"] for c in same if c["win_share"] is not None] for same in by_scale.values()]
        if any(shares):
            heights = [float(np.mean(found)) if found else 0.0 for found in shares]
            width = 0.6 * min(np.diff(scales), default=0.1)
            bars = lower.bar(scales, heights, width=width, color=GREEN, alpha=0.7)
            lower.bar_label(bars, [formats.share(height) for height in heights], fontsize=8)
        lower.set_ylim(0, 1.15)
        lower.set_ylabel("best in\n(resamples)")
        lower.set_xlabel("scale of the candidate (share of the teacher's units)")
        lower.set_xticks(scales, [formats.scale(scale) for scale in scales])
    return figure


def _curve(
    axes: Axes, by_scale: Mapping[float, Sequence[Mapping[str, Any]]], field: str, colour: str, fmt: str, label: str
) -> None:
    """Draw a line over scales with its uncertainty: sd over seeds, or the standard error where there is one seed."""
    values = [[c[field] for c in same if c[field] is not None] for same in by_scale.values()]
    errors = [
        spread(found) if len(found) > 1 else same[0]["metric_se"]
        for found, same in zip(values, by_scale.values(), strict=True)
    ]
    means = [float(np.mean(found)) if found else float("nan") for found in values]
    bars = [0.0 if error is None else error for error in errors]
    axes.errorbar(list(by_scale), means, yerr=bars, color=colour, fmt=fmt, capsize=2, label=label)


def cost_figure(summaries: Sequence[Summary], title: str) -> Figure:
    """Draw test metric against search cost, for one run and student scale.

    Large marks are schedules at the cost of all their trials, small ones single paths at their own cost. Bars are
    standard errors over test examples.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        axes = figure.subplots()
        unit, size = formats.flop_unit(s.cost.flops if s.cost else None for s in summaries)
        marks = _marks(summaries)
        for s in summaries:
            if s.cost is None or s.cost.flops <= 0 or s.test.mean is None:
                continue
            colour, marker = marks[s.label].colour, marks[s.label].marker
            label = s.label + (f" (best of {s.tried})" if s.whole and s.tried > 1 else "")
            axes.errorbar(
                s.cost.flops / size, s.test.mean, yerr=s.test.se or 0.0, color=colour, fmt=marker, capsize=2,
                markersize=(11 if marker == "*" else 8) if s.whole else 4, alpha=1.0 if s.whole else 0.5,
                label=label if s.whole else f"one path of {s.label}", markeredgewidth=1.5 if s.whole else 1.0,
                # Controls are open, so that a mark they share a place with can be seen.
                markerfacecolor=colour if s.whole and not is_control(s.schedule) else "none",
                zorder=3 if s.schedule == reference_schedule() else 2,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"search cost in {unit} (logarithmic)")
        axes.set_ylabel("student's test metric")
        axes.set_title(title, loc="left")
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        axes.legend(once.values(), once.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _marks(summaries: Sequence[Summary]) -> dict[str, Mark]:
    """Return the mark of each label: that of its schedule, in another colour for all but the first of a schedule."""
    marks = {}
    for schedule, members in grouped(summaries, lambda s: s.schedule).items():
        own = mark_of(schedule)
        colours = [own.colour, *(colour for colour in OTHERS if colour != own.colour)]
        for number, label in enumerate(dict.fromkeys(s.label for s in members)):
            marks[label] = Mark(colours[number % len(colours)], own.marker)
    return marks


def sweep_figure(steps: Sequence[Mapping[str, Any]], lam: float, title: str) -> Figure:
    """Draw the chosen scale as a function of λ, one line per seed.

    Args:
        steps: ``break_points`` as ``raydisc.report.show.show`` gives them, of one student scale.
        lam: The λ that was used.
        title: The title of the figure.
    """
    breaks = [step["lam_from"] for step in steps]
    end = max(1.15 * max(breaks, default=0.0), 2 * lam, 0.1)
    by_seed = grouped(steps, lambda step: (step["supernet"], step["teacher_seed"], step["seed"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.8), layout="constrained")
        axes = figure.subplots()
        for number, ((_, teacher_seed, seed), mine) in enumerate(by_seed.items()):
            edges = [step["lam_from"] for step in mine] + [end]
            # Seeds that choose the same scale would hide each other: each line is set a little lower.
            heights = [step["scale"] - 0.008 * number for step in mine]
            axes.stairs(heights, edges, baseline=None, color=OTHERS[number % len(OTHERS)], linewidth=2,
                        label=formats.replicate(teacher_seed, seed))  # fmt: skip
        axes.axvline(lam, color=GREY, linestyle="--", linewidth=1, label=f"λ used: {lam:g}")
        scales = sorted({step["scale"] for step in steps})
        axes.set_yticks(scales, [formats.scale(scale) for scale in scales])
        axes.set_xlim(0, end)
        axes.set_xlabel("λ")
        axes.set_ylabel("scale chosen")
        axes.set_title(title, loc="left")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
