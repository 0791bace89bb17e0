"""Requests: what a schedule may ask for.

A request's fields are inputs (artifacts) or settings; both enter its key, except what says only where
or how to compute (``key=False``).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from pydantic import BaseModel

from raydisc.config.sections import (
    Allocation,
    DistillationConfig,
    FineTuneConfig,
    GridConfig,
    OnceForAllConfig,
    TaskConfig,
    TeacherConfig,
    TeacherOutputsConfig,
)
from raydisc.models.precision import Arithmetic
from raydisc.stages.artifact import Artifact
from raydisc.tasks.batching import EVALUATION_BATCH

_NOT_IN_KEY = {"key": False}


@dataclass(frozen=True)
class Model:
    """A model to be read from an artifact: a whole one, or the candidate of a supernet at a scale."""

    artifact: Artifact
    scale: float | None = None


@dataclass(frozen=True)
class Request:
    """One stage asked for. Subclasses set ``kind`` and ``version``, and raise the version when their code changes."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    prepares: ClassVar[bool] = False
    """Whether the teacher is made by it, or known."""
    by_one: ClassVar[bool] = False
    """Whether one of several workers computes it for all, since no model is run."""

    @property
    def of_teacher(self) -> bool:
        """Whether it is for the teacher's own workers: nothing smaller than the whole teacher is computed."""
        return self.prepares

    def inputs(self) -> tuple[Artifact, ...]:
        """The artifacts the stage is made from, each once."""
        found: dict[str, Artifact] = {}
        for name in (item.name for item in fields(self)):
            for artifact in _artifacts(getattr(self, name)):
                found[artifact.key] = artifact
        return tuple(found.values())

    @property
    def batch_size(self) -> int:
        """Rows of a batch, which may be cut in as many; where nothing is trained, those of a pass."""
        return 1 if self.by_one else EVALUATION_BATCH

    def settings(self) -> dict[str, Any]:
        """Everything but the artifacts' contents that the result depends on, as JSON values."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.metadata.get("key", True)}

    def key(self, arithmetic: Arithmetic) -> str:
        """SHA-256 that names the stage, computed in some arithmetic."""
        content: dict[str, Any] = {
            "kind": self.kind,
            "version": self.version,
            "threads": arithmetic.threads,
            "settings": self.settings(),
        }
        if arithmetic.precision != "float32":  # left out, so that what was kept before there was a choice is found
            content["precision"] = arithmetic.precision
        layout = arithmetic.teacher_layout if self.of_teacher else arithmetic.layout
        if layout is not None and not self.by_one:
            content["layout"] = layout
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def promise(self, arithmetic: Arithmetic) -> Artifact:
        """The artifact that the stage will leave, before it is computed."""
        inputs = tuple(artifact.key for artifact in self.inputs())
        return Artifact(key=self.key(arithmetic), kind=self.kind, inputs=inputs)


def _artifacts(value: Any) -> Iterator[Artifact]:
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, Model):
        yield value.artifact


def _plain(value: Any) -> Any:
    if isinstance(value, Artifact):
        return value.key
    if isinstance(value, Model):
        return [value.artifact.key, value.scale]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Objective):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Tokenise(Request):
    """Tokenise every split of the task once.

    Attributes:
        task_fingerprint: of the rows and what is done with them.
        tokenizer_fingerprint: of the tokenizer's files.
        task: where the rows are.
        teacher: where the tokenizer is.
    """

    kind: ClassVar[str] = "tokenise"
    by_one: ClassVar[bool] = True
    prepares: ClassVar[bool] = True
    task_fingerprint: str
    tokenizer_fingerprint: str
    task: TaskConfig = field(metadata=_NOT_IN_KEY)
    teacher: TeacherConfig = field(metadata=_NOT_IN_KEY)


@dataclass(frozen=True)
class FineTune(Request):
    """Train the teacher, or take in a finished one (``finetune`` None)."""

    kind: ClassVar[str] = "finetune"
    prepares: ClassVar[bool] = True
    version: ClassVar[int] = 2
    data: Artifact
    weights_fingerprint: str
    finetune: FineTuneConfig | None
    seed: int
    teacher: TeacherConfig = field(metadata=_NOT_IN_KEY)

    @property
    def batch_size(self) -> int:
        """See ``Request``."""
        return self.finetune.batch_size if self.finetune else super().batch_size


@dataclass(frozen=True)
class TeacherOutputs(Request):
    """Compute the logits and matched hidden states of the training rows once, of the teacher or of an assistant."""

    kind: ClassVar[str] = "teacher_outputs"
    version: ClassVar[int] = 2
    data: Artifact
    teacher: Model
    positions: tuple[int, ...]
    config: TeacherOutputsConfig
    top_tokens: int

    @property
    def of_teacher(self) -> bool:
        """Not for an assistant's outputs."""
        return self.teacher.artifact.kind == FineTune.kind


@dataclass(frozen=True)
class Importance(Request):
    """Score the teacher's units and sort its weights by the scores; say how scales are allocated to layers."""

    kind: ClassVar[str] = "importance"
    prepares: ClassVar[bool] = True
    version: ClassVar[int] = 3
    data: Artifact
    teacher: Artifact
    method: str
    rows: int
    seed: int
    allocation: Allocation = "global"

    @staticmethod
    def of(data: Artifact, teacher: Artifact, grid: GridConfig, seed: int) -> "Importance":
        """The request that an experiment's grid section stands for."""
        return Importance(data, teacher, grid.importance, grid.importance_rows, seed, grid.allocation)

    def settings(self) -> dict[str, Any]:
        """Without the allocation that there was before there was a choice."""
        return {k: v for k, v in super().settings().items() if (k, v) != ("allocation", "global")}


@dataclass(frozen=True)
class Objective:
    """What of a distillation section says how far two models are apart."""

    losses: tuple[tuple[str, float], ...]
    temperature: float
    layer_mapping: str | tuple[tuple[int, ...], ...]
    top_tokens: int

    @staticmethod
    def of(config: DistillationConfig) -> "Objective":
        """The objective of a distillation section."""
        mapping = config.layer_mapping
        return Objective(
            losses=tuple(sorted(config.losses.items())),
            temperature=config.temperature,
            layer_mapping=mapping if isinstance(mapping, str) else tuple(tuple(pair) for pair in mapping),
            top_tokens=config.top_tokens,
        )


@dataclass(frozen=True)
class OnceForAll(Request):
    """Train all candidates of the grid in one set of weights.

    Attributes:
        data: tokenised task.
        outputs: the teacher's, or None where it is to be run in every step.
        importance: the teacher's sorted weights and its units' scores.
        scales: of the candidates, the student's own included.
        config: how.
        objective: what is minimised.
        seed: of batches, dropout and the sandwich.
        lam: λ, where the assistant is chosen before the end, else None.
    """

    kind: ClassVar[str] = "once_for_all"
    version: ClassVar[int] = 4
    data: Artifact
    outputs: Artifact | None
    importance: Artifact
    scales: tuple[float, ...]
    config: OnceForAllConfig
    objective: Objective
    seed: int
    lam: float | None

    @property
    def batch_size(self) -> int:
        """See ``Request``."""
        return self.config.batch_size

    def settings(self) -> dict[str, Any]:
        """Without what adds nothing: the rule that ``scales`` comes from and, where there is no λ, when to choose."""
        settings = super().settings()
        told = {"candidates"} if self.lam is not None else {"candidates", "choose_at"}
        return {**settings, "config": {k: v for k, v in settings["config"].items() if k not in told}}


@dataclass(frozen=True)
class Distil(Request):
    """Train a model of a scale towards a teacher.

    Attributes:
        data: tokenised task.
        importance: the teacher's sorted weights, which say what each scale keeps.
        teacher: who teaches: the teacher itself, an assistant, or a candidate of the supernet.
        outputs: the teacher's outputs, or None where ``teacher`` is to be run in every step.
        start: the model that the student is cut from.
        scale: the student's.
        config: how.
        seed: of batches and dropout.
        budget_flops: train as long as this many FLOPs allow instead of ``config.epochs``, without early stop; the
            teacher's outputs are paid from them.
        instead_of: an assistant of the grid, by its supernet; train on after ``config.epochs`` for what supernet and
            chosen assistant's outputs cost less than this assistant, distilled alone, and its outputs.
    """

    kind: ClassVar[str] = "distil"
    version: ClassVar[int] = 4
    data: Artifact
    importance: Artifact
    teacher: Model
    outputs: Artifact | None
    start: Model
    scale: float
    config: DistillationConfig
    seed: int
    budget_flops: float | None = None
    instead_of: Model | None = None

    @property
    def batch_size(self) -> int:
        """See ``Request``."""
        return self.config.batch_size

    def settings(self) -> dict[str, Any]:
        """``start`` says where the weights come from, so that ``initialisation`` adds nothing to the key."""
        settings = super().settings()
        return {**settings, "config": {k: v for k, v in settings["config"].items() if k != "initialisation"}}


@dataclass(frozen=True)
class Evaluate(Request):
    """Read the test split once with a finished student."""

    kind: ClassVar[str] = "evaluate"
    data: Artifact
    student: Artifact

    @property
    def of_teacher(self) -> bool:
        """Where it is the teacher that is tested."""
        return self.student.kind == FineTune.kind
