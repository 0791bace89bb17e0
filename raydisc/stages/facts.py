"""Facts: what stages find, as records; in an artifact they are JSON objects with the same names.

A record reads what it needs of an artifact; facts that a kind of task or a later version adds are left alone. The store
checks the facts of each kind of stage (``Kind.facts``) when it reads a manifest.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from raydisc.config.sections import Allocation
from raydisc.stages.artifact import Artifact
from raydisc.tradeoff import Measured


@dataclass(frozen=True)
class Facts:
    """The facts of a kind of stage; the base class of all."""

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """Read the facts of an artifact.

        Raises:
            NotYetKnown: The stage has not been computed.
            ValueError: The artifact does not have such facts.
        """
        names = [item.name for item in fields(cls)]
        try:
            found = _reader(cls).validate_python({name: it for name, it in artifact.known.items() if name in names})
        except ValidationError as error:
            told = f"artifact {artifact.kind} {artifact.key} does not have the facts of its kind"
            raise ValueError(f"{told}: {error.errors()[0]['loc']}") from error
        assert isinstance(found, cls)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values; optional ones are left out where they are None."""
        found: dict[str, Any] = _plain(self)
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    pairs = [(item, getattr(value, item.name)) for item in fields(value)]
    return {item.name: _plain(it) for item, it in pairs if it is not None or item.default is not None}


_READERS: dict[type[Facts], TypeAdapter[Any]] = {}


def _reader(facts: type[Facts]) -> TypeAdapter[Any]:
    if facts not in _READERS:
        _READERS[facts] = TypeAdapter(facts)
    return _READERS[facts]


@dataclass(frozen=True)
class Platform:
    """The software and the processor that a stage was computed with, on which its last bits depend beside its key.

    Each is None for a stage that an earlier version computed; where several workers differed, all are named.

    Attributes:
        torch: The version of torch.
        transformers: The version of transformers.
        cpu_capability: The instructions of the CPU that torch uses, such as ``AVX2``.
        device: The name of the GPU, or of the CPU where it computed.
    """

    torch: str | None = None
    transformers: str | None = None
    cpu_capability: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class PlatformFacts(Facts):
    """The platform among the facts of any stage.

    Attributes:
        platform: That of the process that finished the stage.
    """

    platform: Platform = Platform()


@dataclass(frozen=True)
class TaskFacts(Facts):
    """The facts of a tokenised task.

    Attributes:
        kind: The kind of task.
        classes: The names of the classes, in the order of their numbers.
        num_labels: The outputs of a head.
        metric: The name of the metric.
        max_length: The most tokens of a row.
        text: The columns with text.
        pad_id: The tokenizer's padding token.
        vocab_size: The tokens that the tokenizer knows.
        rows: The number of rows of each split.
        tokens: The number of tokens of each split.
    """

    kind: str
    classes: list[str]
    num_labels: int
    metric: str
    max_length: int
    text: list[str]
    pad_id: int
    vocab_size: int
    rows: dict[str, int]
    tokens: dict[str, int]


@dataclass(frozen=True)
class Score:
    """The evaluation of a model on a split.

    Attributes:
        step: The step after which it was evaluated; None at the end of a stage.
        split: The name of the split.
        metric: The value of the task's metric.
        se: The metric's standard error.
        scale: The scale of a candidate; None where the stage has one model.
    """

    step: int | None
    split: str
    metric: float
    se: float
    scale: float | None = None


@dataclass(frozen=True)
class EvaluatedFacts(Facts):
    """The evaluations among the facts of any stage.

    Attributes:
        evaluations: The evaluations in order, the last of them that of the weights that were kept; empty for a stage
            that evaluates nothing.
    """

    evaluations: list[Score] = field(default_factory=list)

    @property
    def last(self) -> Score:
        """The evaluation of the weights that were kept."""
        return self.evaluations[-1]


@dataclass(frozen=True)
class ModelFacts(Facts):
    """The facts that all stages share which leave a model: the teacher, an assistant or a student.

    Attributes:
        parameters: The parameters of the model, with the task's head.
        evaluations: The evaluations in order; the last is that of the weights that were kept.
    """

    parameters: int
    evaluations: list[Score]


@dataclass(frozen=True)
class DistilFacts(Facts):
    """The facts of a stage that distils a model.

    Attributes:
        scale: The scale asked for.
        measured_scale: The share of the prunable parameters that the model has.
        parameters: See ``ModelFacts``.
        steps: The optimiser steps that were done, those of the parts that it went on from included.
        evaluations: See ``ModelFacts``.
        whole_table: See ``OnceForAllFacts``; None where the training was not broken off.
    """

    scale: float
    measured_scale: float
    parameters: int
    steps: int
    evaluations: list[Score]
    whole_table: bool | None = None


@dataclass(frozen=True)
class ImportanceFacts(Facts):
    """The facts of the teacher's importance.

    Attributes:
        parameters: The parameters of the teacher.
        method: The method by which units were scored.
        reference: The metric that candidates' metrics are divided by in the tradeoff.
        allocation: The rule by which a scale is allocated to layers; earlier artifacts do not name it.
    """

    parameters: int
    method: str
    reference: float
    allocation: Allocation = "global"


@dataclass(frozen=True)
class OutputsFacts(Facts):
    """The facts of a model's outputs on the training rows.

    Attributes:
        bytes: The size of all outputs.
        positions: The positions whose hidden states are among them.
        source: The place from which the run that computed them reads them: ``memory`` or ``disk``; None in a plan.
        dtype: The type of the hidden states; None without any.
        error: The error that this type brings, relative to float32; None without hidden states.
    """

    bytes: int
    positions: list[int]
    source: str | None = None
    dtype: str | None = None
    error: float | None = None


@dataclass(frozen=True)
class SupernetFacts(Facts):
    """The facts of a supernet that schedules read, and that are foreseen in part before it is trained.

    Attributes:
        candidates: The candidates as the choice saw them.
        outputs_flops: The FLOPs of the teacher's outputs that it was trained towards.
        chosen_at: The step after which its training was broken off for the choice; None where it was trained to the
            end.
        contest_flops: The FLOPs of the supernet that the training of one candidate alone went on from; 0 for a supernet
            without such a stage before it.
    """

    candidates: list[Measured]
    outputs_flops: float
    chosen_at: int | None = None
    contest_flops: float = 0.0


@dataclass(frozen=True)
class CandidateFacts:
    """A candidate of a trained supernet as the choice saw it; what it keeps is written beside these.

    Attributes:
        scale: The nominal scale.
        parameters: The parameters of its model.
        reference: The metric that its metric is divided by in the tradeoff.
        metric: The value of the task's metric.
        se: The metric's standard error.
        measured_scale: The share of the prunable parameters that it has.
        flops: The FLOPs of a forward on a row of the mean length.
        flops_share: These relative to the teacher's.
        heads: The heads that it keeps in each layer; None for structures that keep something else.
        neurons: The neurons that it keeps in each layer; None for structures that keep something else.
    """

    scale: float
    parameters: int
    reference: float
    metric: float
    se: float
    measured_scale: float
    flops: float
    flops_share: float
    heads: list[int] | None = None
    neurons: list[int] | None = None


@dataclass(frozen=True)
class CandidatesFacts(Facts):
    """The candidates among the facts of any stage.

    Attributes:
        candidates: The candidates; empty for a stage that is not a supernet.
    """

    candidates: list[CandidateFacts] = field(default_factory=list)


@dataclass(frozen=True)
class OnceForAllFacts(Facts):
    """The facts of a trained supernet.

    Attributes:
        candidates: The candidates as the choice saw them.
        evaluations: The evaluations of all candidates in order; the last are those of the weights that were kept.
        steps: The optimiser steps that were done.
        planned_steps: The steps that would have been done without an early stop.
        chosen_at: See ``SupernetFacts``.
        outputs_flops: See ``SupernetFacts``.
        whole_table: Whether the whole word embedding was trained, as in a sharded model, rather than the rows of the
            tokens that occur; a stage that goes on with the training does the same.
    """

    candidates: list[CandidateFacts]
    evaluations: list[Score]
    steps: int
    planned_steps: int
    chosen_at: int | None
    outputs_flops: float
    whole_table: bool = False


@dataclass(frozen=True)
class FinalistFacts(Facts):
    """The facts of a supernet of which one candidate was trained on alone.

    Attributes:
        scale: The scale of that candidate.
        candidates: The candidate, which is the only one.
        evaluations: Its evaluation.
        steps: The optimiser steps that were done after those of the contest.
        outputs_flops: See ``SupernetFacts``.
        contest_flops: See ``SupernetFacts``.
    """

    scale: float
    candidates: list[CandidateFacts]
    evaluations: list[Score]
    steps: int
    outputs_flops: float
    contest_flops: float
