"""The base class of stages: what a schedule may ask for."""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pydantic import BaseModel

from raydisc.models.precision import Arithmetic
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.context import Context, Result
from raydisc.stages.kinds import KINDS, Kind, kind_named
from raydisc.stages.plan import Outlook, Plan
from raydisc.tasks.batching import EVALUATION_BATCH

WITHOUT_MODEL = Arithmetic(threads=1)
"""The arithmetic in keys of stages that run no model: the default's, in which they were kept before it was left out."""

NOT_IN_KEY = {"key": False}
"""Metadata of a field that says only where or how to compute."""


@dataclass(frozen=True)
class OfModel(ABC):
    """A setting that follows from a model by a rule; both enter keys.

    Attributes:
        rule: The name of the rule in keys, which every rule has of its own.
        model: The model.
    """

    rule: ClassVar[str]

    model: Model


@dataclass(frozen=True)
class Stage(ABC):
    """A stage that is asked for: a computation that is done once, whoever asks for it, and leaves an artifact.

    Its fields are inputs (artifacts and models of artifacts) or settings; both enter its key. The metadata of a field
    say what does not:

    - ``key``: False leaves the field out.
    - ``named``: the name that the field has in keys, where it is another one.
    - ``but``: the names of a section's fields that are left out, since other fields of the stage decide them.
    - ``since``: what the field had to be before it existed, by which it is left out, so that what was computed earlier
      is found; of a section a mapping of its fields.

    Attributes:
        kind: The name of the kind in artifacts and in the ledger.
        about: What reports ask about the kind, of a class that another package adds; for raydisc's own see ``KINDS``.
        version: Part of the key; it is raised when the code gives other results.
        prepares: Whether the stage makes or knows the teacher, before any search.
        by_one: Whether one of several workers computes it for all, since no model is run.
        comes_first: Whether a run computes it before other stages that trials share, since most of them wait for it.
    """

    kind: ClassVar[str]
    about: ClassVar[Kind] = Kind()
    version: ClassVar[int] = 1
    prepares: ClassVar[bool] = False
    by_one: ClassVar[bool] = False
    comes_first: ClassVar[bool] = False

    @abstractmethod
    def compute(self, context: Context) -> Result:
        """Compute the stage."""

    @abstractmethod
    def plan(self, outlook: Outlook) -> Plan | None:
        """Return what the stage will do and leave, as far as it is known before any weights are there.

        Returns:
            The plan; None for a stage that a forecast computes, since it is cheap and other plans read what it leaves.
        """

    @abstractmethod
    def label(self, undecided: bool = False) -> str:
        """Return the stage's name for people.

        Args:
            undecided: Whether the stage's scale depends on a choice that nobody has made yet.
        """

    @property
    def searched(self) -> bool:
        """Whether the stage belongs to the cost of a search."""
        return KINDS.get(self.kind, self.about).searched

    @property
    def scales_to_choose(self) -> tuple[float, ...]:
        """The scales of the candidates that a schedule may choose from once the stage is finished."""
        return ()

    @property
    def of_teacher(self) -> bool:
        """Whether it is for the teacher's own workers: nothing smaller than the whole teacher is computed."""
        return self.prepares

    @property
    def batch_size(self) -> int:
        """The rows of a batch, which may be cut into as many parts; where nothing is trained, those of a pass."""
        return 1 if self.by_one else EVALUATION_BATCH

    def inputs(self) -> tuple[Artifact, ...]:
        """Return the artifacts that the stage is made from, each once."""
        found: dict[str, Artifact] = {}
        for name in (item.name for item in fields(self)):
            for artifact in _artifacts(getattr(self, name)):
                found[artifact.key] = artifact
        return tuple(found.values())

    def settings(self) -> dict[str, Any]:
        """Return everything but the artifacts' contents that the result depends on, as JSON values."""
        found = {}
        for item in fields(self):
            if not item.metadata.get("key", True):
                continue
            value, since = _plain(getattr(self, item.name)), item.metadata.get("since", dataclasses.MISSING)
            if value == since:
                continue
            if isinstance(since, Mapping) or "but" in item.metadata:
                before = since if isinstance(since, Mapping) else {}
                left_out = {*item.metadata.get("but", ()), *(name for name in before if value[name] == before[name])}
                value = {name: it for name, it in value.items() if name not in left_out}
            found[item.metadata.get("named", item.name)] = value
        return found

    def key(self, arithmetic: Arithmetic) -> str:
        """Return the SHA-256 that names the stage, computed in some arithmetic, if it runs a model."""
        if self.by_one:
            arithmetic = WITHOUT_MODEL
        content: dict[str, Any] = {
            "kind": self.kind,
            "version": self.version,
            "threads": arithmetic.threads,
            "settings": self.settings(),
        }
        if arithmetic.precision != "float32":  # left out, so that what was kept before there was a choice is found
            content["precision"] = arithmetic.precision
        layout = arithmetic.teacher_layout if self.of_teacher else arithmetic.layout
        if layout is not None:
            content["layout"] = layout
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def promise(self, arithmetic: Arithmetic) -> Artifact:
        """Return the artifact that the stage will leave, as it is known before it is computed."""
        inputs = tuple(artifact.key for artifact in self.inputs())
        return Artifact(key=self.key(arithmetic), kind=self.kind, inputs=inputs)


CHOSEN = "chosen"
"""The name of a candidate of a supernet that nobody has chosen yet."""


def name_of(model: Model) -> str:
    """Return a teacher's name for people: its scale, or what it is."""
    if kind_named(model.artifact.kind).supernet:
        return CHOSEN
    scale = (model.artifact.facts or {}).get("scale")
    return "teacher" if scale is None else f"{scale:g}"


def _artifacts(value: Any) -> Iterator[Artifact]:
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, Model):
        yield value.artifact
    elif isinstance(value, OfModel):
        yield value.model.artifact


def _plain_rule(value: OfModel) -> Any:
    if "rule" not in type(value).__dict__:
        raise TypeError(f"{type(value).__name__} needs a `rule` of its own, by which keys tell it from other rules")
    others = [_plain(getattr(value, item.name)) for item in fields(value) if item.name != "model"]
    return [value.rule, _plain(value.model), *others] if value.rule else _plain(value.model)


def _plain(value: Any) -> Any:
    if isinstance(value, Artifact):
        return value.key
    if isinstance(value, Model):
        return [value.artifact.key, value.scale]
    if isinstance(value, OfModel):
        return _plain_rule(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return list(value) if isinstance(value, tuple) else value
