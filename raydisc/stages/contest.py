"""The contest between the supernet's candidates while it trains: who is still trained, and whether it is decided."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raydisc.distillation.contenders import Evaluated, Evaluation, Race, contenders, settled
from raydisc.stages.requests import OnceForAll
from raydisc.supernet.grid import Candidate
from raydisc.tradeoff import win_shares


class Contest:
    """Which candidates once-for-all trains, as its evaluations so far decide.

    The student's own candidate, the smallest, is no contestant and is trained to the end.

    Args:
        request: what decides; without λ everybody is trained to the end.
        candidates: all, largest first.
        labels: of the validation rows ``[N]``.
        so_far: evaluations of an earlier process that this one goes on from.
    """

    def __init__(
        self,
        request: OnceForAll,
        candidates: Sequence[Candidate],
        labels: np.ndarray,
        so_far: Sequence[Mapping[str, Any]],
    ) -> None:
        """See the class."""
        self._request, self._candidates, self._labels = request, candidates, labels
        self._race: Race | None = None
        if request.lam is not None and len(candidates) > 1:
            scales = tuple(candidate.scale for candidate in candidates[:-1])
            self._race = Race(scales, request.lam, ceiling=request.importance["teacher_metric"])
        self._evaluations = [_read(found["candidates"], self._race) for found in so_far]
        self.live = self._live()

    def judge(
        self, rows: list[dict[str, Any]], predictions: Mapping[float | None, np.ndarray]
    ) -> tuple[list[dict[str, Any]], bool]:
        """Take an evaluation of the live candidates; gives its rows with their shares of wins, and whether to end."""
        if self._race is None:
            return rows, False
        assistants = {scale: predictions[scale] for scale in self._race.scales if scale in predictions}
        shares = win_shares(assistants, self._labels, self._request.data["metric"], self._race.lam)
        rows = [{**row, "share": shares.get(row["scale"])} for row in rows]
        self._evaluations.append(_read(rows, self._race))
        self.live = self._live()
        return rows, self._decided(self._race)

    def _decided(self, race: Race) -> bool:
        """Whether the ranking has settled among those that could win: nobody comes in who was not evaluated."""
        config, evaluations = self._request.config, self._evaluations
        if config.settled is None or not settled(race, evaluations, config.settled):
            return False
        evaluated = {found.scale for found in evaluations[-1].candidates}
        return evaluated.issuperset(contenders(race, config.narrow, evaluations))

    def _live(self) -> list[Candidate]:
        if self._race is None:
            return list(self._candidates)
        # those of the evaluation that ends the stage have been trained to the end
        evaluations = self._evaluations[:-1] if self._decided(self._race) else self._evaluations
        kept = contenders(self._race, self._request.config.narrow, evaluations)
        return [*(candidate for candidate in self._candidates if candidate.scale in kept), self._candidates[-1]]


def _read(rows: Sequence[Mapping[str, Any]], race: Race | None) -> Evaluation:
    assistants = [row for row in rows if race is not None and row["scale"] in race.scales]
    return Evaluation(
        candidates=tuple(Evaluated(row["scale"], row["metric"]) for row in assistants),
        shares={row["scale"]: row["share"] for row in assistants},
    )
