"""The early choice of the assistant: all candidates are trained side by side, then the chosen one alone.

The choice outlives the process that made it: the checkpoint remembers the evaluation that it was made by, and the
predictions behind that evaluation lie beside the checkpoint, in ``choice.arrow``.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from raydisc.stages.context import Context
from raydisc.stages.files import table_blob
from raydisc.storage.fsync import sync
from raydisc.supernet.candidates import Candidate
from raydisc.tradeoff import Scored, choose
from raydisc.training.checkpoint import evaluations_in
from raydisc.training.progress import ScoredCandidate

_PREDICTIONS = "choice.arrow"


def chosen_by(scored: Sequence[Scored], lam: float | None, candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate that an evaluation makes the assistant.

    Args:
        scored: The scale and the metric of each candidate.
        lam: The λ of the choice; None where nothing is chosen before the end.
        candidates: The candidates, largest first; the last is the student's own and cannot be chosen.
    """
    if lam is None:
        return None
    scale = choose(scored, lam, above=candidates[-1].scale).scale
    return next(candidate for candidate in candidates if candidate.scale == scale)


class Selection:
    """The selection of the assistant in a stage that is trained.

    Args:
        candidates: The candidates, largest first; the last is the student's own and cannot be chosen.
        lam: The λ of the choice; None where nothing is chosen before the end.
        chooses_at: The step after which the choice is made; None where it is not made before the end.
        context: The context of the stage; a choice that an earlier process made is read from its checkpoint.
    """

    def __init__(
        self, candidates: Sequence[Candidate], lam: float | None, chooses_at: int | None, context: Context
    ) -> None:
        """See the class."""
        self._candidates, self._lam = tuple(candidates), lam
        self._folder, self._writes = context.checkpoint_folder, context.rank.leads
        self.chooses_at = chooses_at
        made = [found.candidates for found in evaluations_in(self._folder) if found.step == chooses_at]
        self.scored = made[-1] if made else ()
        """The evaluation that the choice was made by; empty before the choice."""

    def chosen(self, step: int) -> Candidate | None:
        """Return the candidate that a step (counted from 0) trains alone; None while all are trained."""
        if self.chooses_at is None or step < self.chooses_at:
            return None
        return chosen_by(self.scored, self._lam, self._candidates)

    def choose(self, scored: Sequence[ScoredCandidate], predictions: pa.Table) -> None:
        """Make the choice by an evaluation of all candidates; their predictions are kept at once."""
        self.scored = tuple(scored)
        if not self._writes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{_PREDICTIONS}.{os.getpid()}"
        table_blob(predictions)(temporary)
        sync(temporary)
        temporary.replace(self._folder / _PREDICTIONS)

    def write_predictions(self, target: Path) -> None:
        """Copy the predictions behind the choice into the artifact; they stay, as writing the artifact may fail."""
        shutil.copyfile(self._folder / _PREDICTIONS, target)
