"""Whether what is compared was computed alike: by the same versions, on processors that round alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from raydisc.report import formats
from raydisc.report.costs import StageGraph
from raydisc.report.ledger import Ledger
from raydisc.report.rows import Row

_NAMES = {
    "torch": "versions of torch",
    "transformers": "versions of transformers",
    "cpu_capability": "CPU capabilities",
    "device": "devices",
}
"""Column of the ledger's stages → what its values are."""


def mixtures(ledger: Ledger, rows: Sequence[Row]) -> list[str]:
    """Return a sentence where rows of a comparison were computed by different versions or on different processors.

    Stages that all rows share cannot make a difference between them. What earlier versions computed is not known, and
    is not mentioned.

    Args:
        ledger: The ledger that the rows come from.
        rows: The rows that are compared.
    """
    graph = StageGraph(ledger.rows("stages"))
    behind = [graph.closure(key for key in (row.student, row.supernet, row.test) if key) for row in rows]
    uses = Counter(key for keys in behind for key in keys)
    stages = [graph.stages[key] for key, count in uses.items() if count < len(behind)]
    found = {column: sorted({stage[column] for stage in stages if stage[column]}) for column in _NAMES}
    different = [f"{_NAMES[column]} ({', '.join(values)})" for column, values in found.items() if len(values) > 1]
    if not different:
        return []
    return [
        f"what is compared was computed with different {formats.listed(different)}, which round differently, so that a "
        "small difference may come from this alone"
    ]
