"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from raydisc.report import formats
from raydisc.report.bootstrap import Bootstrap
from raydisc.report.compare import comparison
from raydisc.report.figures import candidates_figure, cost_figure, render, sweep_figure
from raydisc.report.ledger import Ledger
from raydisc.report.recommendation_text import page_sheet
from raydisc.report.rows import grouped
from raydisc.report.schedules import oracle_schedule
from raydisc.report.show import show
from raydisc.report.show_tables import candidate_sheets, stage_sheet, trial_sheet
from raydisc.report.summary import Summary, summarise
from raydisc.report.table import as_html
from raydisc.report.tables import comparison_sheets

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 68rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: .85rem; margin: 1.2rem 0 .2rem; }
.lead, .note, figcaption { color: #57606a; } .note { font-size: .85rem; margin: .2rem 0; }
.scroll { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .25rem .7rem; white-space: pre; } th { border-bottom: 2px solid #d0d7de; }
td { border-bottom: 1px solid #eaeef2; } .l { text-align: left; } .r { text-align: right; }
tr.bold td { font-weight: 600; background: #fff4ec; } tr.dim td { color: #57606a; }
.notice { background: #fff8c5; border-left: 4px solid #d4a72c; padding: .4rem .8rem; margin: .4rem 0; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; } figcaption { font-size: .85rem; }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; font-size: .85rem; }
"""


def html_report(ledger: Ledger, run: str, experiment: str | None = None) -> str:
    """Return the report as HTML: comparison, figures, candidates, trials, stages, notices, the resolved experiment.

    Args:
        ledger: The ledger to read.
        run: Name of the run.
        experiment: The resolved experiment as YAML, shown at the end.

    Raises:
        InputError: The storage knows no such run.
    """
    bootstrap = Bootstrap(ledger)
    shown = show(ledger, run, bootstrap)
    rows = comparison(ledger, [run])
    summaries = summarise(bootstrap, rows)
    parts = [
        f"<h1>{escape(run)}</h1>",
        f"<p class='lead'>{escape(str(shown['metric']))} on {escape(str(shown['task']))}</p>",
        *[f"<p class='notice'>{escape(_sentence(notice))}</p>" for notice in shown["notices"]],
        "<h2>Comparison</h2>",
        *(map(as_html, comparison_sheets(bootstrap, rows, summaries)) if rows else ["<p>No trial has finished.</p>"]),
        *(as_html(page_sheet(page)) for page in shown["recommendations"]),
        *_cost_figures(summaries),
        "<h2>Candidates</h2>",
        *map(as_html, candidate_sheets(shown)),
        *_candidate_figures(shown, summaries),
        "<h2>Trials and stages</h2>",
        as_html(trial_sheet(shown)),
        as_html(stage_sheet(shown)),
        f"<h2>Experiment</h2>\n<pre>{escape(experiment)}</pre>" if experiment else "",
    ]
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(run)} · raydisc</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def write_report(ledger: Ledger, run: str, path: Path, experiment: str | None = None) -> Path:
    """Write the report to a file, as a whole or not at all, and return the file's path.

    Raises:
        InputError: The storage knows no such run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(html_report(ledger, run, experiment), encoding="utf-8")
    temporary.rename(path)
    return path


def _sentence(notice: str) -> str:
    return notice[:1].upper() + notice[1:] + "."


def _cost_figures(summaries: Sequence[Summary]) -> list[str]:
    return [
        _figure(
            cost_figure(members, f"Student at scale {formats.scale(student_scale)}"),
            "Search cost against the student's test metric. Large marks: schedules at the cost of all their trials, "
            "controls open; small ones: single paths at their own cost. Bars: standard error over test examples.",
        )
        for student_scale, members in grouped(summaries, lambda s: s.student_scale).items()
        if any(s.cost is not None and s.test.mean is not None for s in members)
    ]


def _candidate_figures(shown: Mapping[str, Any], summaries: Sequence[Summary]) -> list[str]:
    figures = []
    for (student_scale, lam), candidates in grouped(
        shown["candidates"], lambda c: (c["student_scale"], c["lam"])
    ).items():
        title = f"Candidates for the student at scale {formats.scale(student_scale)}"
        students = {
            s.paths[0][0]: (s.test.mean, s.test.se)
            for s in summaries
            if (s.student_scale, s.schedule, len(s.paths), len(s.paths[0])) == (student_scale, oracle_schedule(), 1, 1)
            and s.test.mean is not None
        }
        replicates = len({(c["teacher_seed"], c["seed"]) for c in candidates})
        figures.append(
            _figure(
                candidates_figure(candidates, students, title),
                f"Bars of the lines: {'sd over seeds' if replicates > 1 else 'standard error over examples'}. The band "
                "marks the best tradeoff. Below: the share of resamples of the validation examples in which a "
                f"candidate has the best tradeoff{', averaged over seeds' if replicates > 1 else ''}.",
            )
        )
        steps = [s for s in shown["break_points"] if (s["student_scale"], s["lam"]) == (student_scale, lam)]
        cost = "by training another supernet" if any(step["early"] for step in steps) else "at no training cost"
        caption = f"What each λ would choose, {cost}."
        figures.append(_figure(sweep_figure(steps, lam, title), caption))
    return figures


def _figure(figure: Figure, caption: str) -> str:
    data = base64.b64encode(render(figure)).decode()
    alt = escape(caption, quote=True)
    return (
        f"<figure><img alt='{alt}' src='data:image/svg+xml;base64,{data}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
