"""The training of once-for-all: whom each step trains on what, known before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from raydisc.config.sections import OnceForAllConfig
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.structure import Structure
from raydisc.stages.once_for_all.lessons import lessons_of, sandwich_backward
from raydisc.stages.once_for_all.model import Supernet
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.targets import weighted_loss
from raydisc.stages.training import Assigned, Known, Learner, Part, Pupil, SharedShape, Towards, Training
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.sandwich import Rule, Share, even_rows, sandwich
from raydisc.training.batches import steps_of
from raydisc.training.loop import even_steps


@dataclass(frozen=True, kw_only=True)
class OnceForAllTraining(Training):
    """The training of all candidates in one set of weights.

    Attributes:
        candidates: The candidates of the supernet, largest first.
        rule: The rule of the sandwich.
        chances: How likely a draw takes each scale.
        fractions: For each assistant's scale the share of a batch with which its step costs what the smallest one's
            does.
        step_loss: The loss of a step: the ``sum`` of its candidates' losses, or ``half_mean``, half their mean.
        alone: The candidate that is trained alone; None where all are trained side by side.
    """

    elastic: ClassVar[bool] = True

    candidates: tuple[Candidate, ...]
    rule: Rule
    chances: Mapping[float, float]
    fractions: Mapping[float, float]
    step_loss: str
    alone: Candidate | None = None

    def parts(self, step: int) -> list[Part]:
        """See ``Training``; a candidate without rows learns nothing."""
        rows, alone = self.source.rows(step), self.alone
        if alone is None:
            shares = sandwich(self.candidates, self.rule, self.chances, self.source.seed, step)
        else:
            shares = [Share(alone, even_rows(len(rows), self.fractions[alone.scale]))]
        parts = [Part(share.candidate, rows if share.whole else rows[share.rows]) for share in shares]
        return [part for part in parts if len(part.rows)]

    def learner(self, pupil: Pupil) -> Learner:
        """See ``Training``."""
        assert self.towards is not None
        signal = pupil.signal
        assert signal is not None
        loss = weighted_loss(self.towards.objective, self.towards.data)
        positions, inner, known = self.towards.student_positions, self.towards.inner_of_student, self.known
        supernet = Supernet(pupil.model, known.config, self.candidates, known.cost, pupil.precision, pupil.rank)

        def learn(assigned: Sequence[Assigned]) -> torch.Tensor:
            lessons = lessons_of(assigned, signal, pupil.micro_batches)
            weight = 1.0 if self.step_loss == "sum" else 0.5 / len(assigned)
            return sandwich_backward(supernet, lessons, loss, positions, inner, weight)

        return learn

    def samples(self) -> Sequence[Sequence[Candidate]]:
        """Return one candidate and two, the smallest ones; see ``Training``."""
        return [self.candidates[-1:], self.candidates[-2:]]

    def heaviest(self) -> list[list[SharedShape]]:
        """Return the step with the largest lesson."""
        cost = self.known.cost

        def largest(shared: list[SharedShape]) -> int:
            return max(cost.flops(self.structure_of(it), *shape) for learners, shape in shared for it in learners)

        return [max(map(self.shapes, self.own_steps), key=largest)]


def training_of(request: OnceForAllRequest, known: Known, candidates: tuple[Candidate, ...]) -> OnceForAllTraining:
    """Return the training of a request; only data and importance are read.

    Args:
        request: The supernet that is asked for, up to the choice where there is one before the end.
        known: What the training follows from beside the request.
        candidates: The candidates, largest first.
    """
    config, source = request.config, known.source(request.data, request.config, request.seed)
    layers = len(known.cost.layers)
    towards = Towards(request.data, request.objective, request.origin, request.outputs, layers)
    steps = steps_of(config, source.steps_per_epoch)
    chooses_at = _choice_step(config, steps)
    length = round(float(source.split.lengths.mean()))
    return OnceForAllTraining(
        stage="once_for_all",
        known=known,
        config=config,
        source=source,
        steps=steps,
        structure=candidates[0].structure,
        towards=towards,
        ends_at=chooses_at,
        evaluate_at=_evaluation_steps(config, chooses_at, steps),
        evaluation_rows=config.evaluation_rows,
        patience=config.patience,
        keep_best=config.keep == "best",
        dropout=config.dropout,
        candidates=candidates,
        rule=config.sandwich,
        chances=_chances(config.sandwich, candidates, known.cost),
        fractions=_fractions(candidates, known.cost, length, towards.structure_run(known.store)),
        step_loss=config.step_loss,
    )


def continued(training: OnceForAllTraining, alone: Candidate) -> OnceForAllTraining:
    """Return the rest of a training that was broken off for a choice: the chosen candidate alone, to the end."""
    assert training.ends_at is not None
    return replace(
        training, stage="finalist", begins_at=training.ends_at, ends_at=None, evaluate_at=frozenset(), alone=alone
    )


def _choice_step(config: OnceForAllConfig, steps: int) -> int | None:
    """Return the step after which the assistant is chosen; None where all candidates are trained to the end."""
    step = max(1, round(config.choose_at * steps))
    return step if step < steps else None


def _evaluation_steps(config: OnceForAllConfig, chooses_at: int | None, steps: int) -> frozenset[int]:
    if chooses_at is not None:  # every evaluation but the one at the end of the stage, which decides
        return even_steps(chooses_at, config.evaluations, last=False)
    return even_steps(steps, config.evaluations, last=config.keep == "best" or config.patience is not None)


def _chances(rule: Rule, candidates: Sequence[Candidate], cost: ForwardCost) -> dict[float, float]:
    """Return how likely a step's draw takes each candidate."""
    if rule == "all" or rule.draw == "uniform":
        return {candidate.scale: 1.0 for candidate in candidates}
    return {candidate.scale: 1 / cost.flops(candidate.structure, 1, 1) for candidate in candidates}


def _fractions(
    candidates: Sequence[Candidate], cost: ForwardCost, length: int, teacher: Structure | None
) -> dict[float, float]:
    """Return the share of a batch that each assistant has alone; ``teacher`` is one that is run on what it learns."""
    extra = cost.flops(teacher, 1, length) if teacher else 0
    row = {it.scale: STEP_FORWARDS * cost.flops(it.structure, 1, length) + extra for it in candidates[:-1]}
    return {scale: min(row.values()) / flops for scale, flops in row.items()}
