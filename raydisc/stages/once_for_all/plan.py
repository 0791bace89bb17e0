"""The course of once-for-all: whom each step trains and when it is evaluated, known before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydisc.config.sections import OnceForAllConfig
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.widths import Widths
from raydisc.stages.artifact import Model
from raydisc.stages.files import read_split, read_widths
from raydisc.stages.once_for_all.request import OnceForAllRequest
from raydisc.stages.store import ArtifactStore
from raydisc.stages.targets import are_kept
from raydisc.supernet.candidates import Candidate
from raydisc.supernet.sandwich import Rule, Share, even_rows, sandwich
from raydisc.training.batches import steps_of
from raydisc.training.loop import even_steps


@dataclass(frozen=True)
class Course:
    """Whom each step trains, but for the choice of the assistant.

    Attributes:
        candidates: of the supernet, largest first.
        rule: of the sandwich.
        chances: how likely a draw takes each scale.
        fractions: for each assistant's scale the share of a batch with which its step costs what the smallest one's
            does.
        seed: of the draws.
        steps: of the stage.
        chooses_at: the step after which the assistant is chosen; None where all are trained to the end.
        evaluate_at: steps after which all candidates are evaluated.
    """

    candidates: tuple[Candidate, ...]
    rule: Rule
    chances: Mapping[float, float]
    fractions: Mapping[float, float]
    seed: int
    steps: int
    chooses_at: int | None
    evaluate_at: frozenset[int]

    def shares(self, step: int, chosen: Candidate | None, rows: int) -> list[Share]:
        """What step ``step`` (from 0) trains of a batch of so many rows, once an assistant was chosen it alone."""
        if chosen is None:
            return sandwich(self.candidates, self.rule, self.chances, self.seed, step)
        return [Share(chosen, even_rows(rows, self.fractions[chosen.scale]))]


def course_of(
    request: OnceForAllRequest, store: ArtifactStore, candidates: tuple[Candidate, ...], cost: ForwardCost
) -> Course:
    """The course of a request's candidates, largest first; only data and importance are read."""
    split = read_split(store, request.data, "train")
    steps = steps_of(request.config, -(-len(split) // request.config.batch_size))
    chooses_at = _choice_step(request, steps)
    teacher = None if are_kept(request.outputs) else read_widths(store, Model(request.importance))
    return Course(
        candidates=candidates,
        rule=request.config.sandwich,
        chances=_chances(request.config.sandwich, candidates, cost),
        fractions=_fractions(candidates, cost, round(float(split.lengths.mean())), teacher),
        seed=request.seed,
        steps=steps,
        chooses_at=chooses_at,
        evaluate_at=_evaluation_steps(request.config, chooses_at, steps),
    )


def _choice_step(request: OnceForAllRequest, steps: int) -> int | None:
    """The step after which the assistant is chosen; None where all candidates are trained to the end."""
    if request.lam is None:
        return None
    step = max(1, round(request.config.choose_at * steps))
    return step if step < steps else None


def _evaluation_steps(config: OnceForAllConfig, chooses_at: int | None, steps: int) -> frozenset[int]:
    if chooses_at is not None:
        return even_steps(chooses_at, config.evaluations, last=True)
    return even_steps(steps, config.evaluations, last=config.patience is not None)


def _chances(rule: Rule, candidates: Sequence[Candidate], cost: ForwardCost) -> dict[float, float]:
    """How likely a step's draw takes each candidate."""
    if rule == "all" or rule.draw == "uniform":
        return {candidate.scale: 1.0 for candidate in candidates}
    return {candidate.scale: 1 / cost.flops(candidate.widths, 1, 1) for candidate in candidates}


def _fractions(
    candidates: Sequence[Candidate], cost: ForwardCost, length: int, teacher: Widths | None
) -> dict[float, float]:
    """For each assistant its share of a batch; ``teacher`` is one that is run on what it learns from."""
    extra = cost.flops(teacher, 1, length) if teacher else 0
    row = {it.scale: STEP_FORWARDS * cost.flops(it.widths, 1, length) + extra for it in candidates[:-1]}
    return {scale: min(row.values()) / flops for scale, flops in row.items()}
