"""Artifacts: the results that stages leave."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class NotYetKnown(RuntimeError):
    """A fact was asked of a stage that has not been computed: a schedule cannot be foreseen beyond here."""


@dataclass(frozen=True)
class Cost:
    """The cost of a stage that is computed once, undisturbed.

    Attributes:
        flops: The FLOPs of the matrix multiplications that it executed, by formula, padding included.
        device_seconds: The seconds times the devices held.
        wall_seconds: The seconds.
        cpu_seconds: The seconds of process time, user and system.
    """

    flops: float = 0.0
    device_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Artifact:
    """A stage's result, or the promise of one whose facts are not yet known.

    Attributes:
        key: SHA-256 of the stage's kind, version, settings and its inputs' keys.
        kind: The stage's kind.
        inputs: The keys of the stages that it was made from.
        facts: The facts that the stage found, as JSON values (see ``raydisc.stages.facts``); None for a promise.
        cost: The cost of the stage.
        blobs: The SHA-256 of each file by name.
    """

    key: str
    kind: str
    inputs: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None
    cost: Cost = field(default_factory=Cost)
    blobs: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """Return a fact.

        Raises:
            NotYetKnown: The stage has not been computed.
        """
        return self.known[name]

    @property
    def flops(self) -> float:
        """The FLOPs that the stage executed.

        Raises:
            NotYetKnown: The stage has not been computed.
        """
        _ = self.known
        return self.cost.flops

    @property
    def known(self) -> Mapping[str, Any]:
        """The facts.

        Raises:
            NotYetKnown: The stage has not been computed.
        """
        if self.facts is None:
            raise NotYetKnown(f"stage {self.kind} {self.key[:12]} has not been computed")
        return self.facts

    def manifest(self) -> dict[str, Any]:
        """Return the artifact as JSON values."""
        return asdict(self)

    @staticmethod
    def from_manifest(manifest: Any) -> "Artifact":
        """Return the artifact of a manifest.

        Raises:
            ValueError: The manifest is damaged, or a file's name leads out of the artifact's folder.
        """
        read = _Manifest.model_validate(manifest)
        return Artifact(read.key, read.kind, tuple(read.inputs), read.facts, Cost(**dict(read.cost)), read.blobs)


@dataclass(frozen=True)
class Model:
    """A model of an artifact: the whole one, or the candidate of a supernet at a scale.

    Example:
        >>> supernet = Artifact(key="9ac4", kind="once_for_all")
        >>> Model(supernet, scale=0.5).scale
        0.5
    """

    artifact: Artifact
    scale: float | None = None


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not name.isprintable() or not parts or name != "/".join(parts) or name.startswith("/") or ".." in parts:
        raise ValueError(f"{name!r} is not a file inside the artifact's folder")
    return name


_Name = Annotated[str, Field(max_length=200), AfterValidator(_inside)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


_Spent = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Cost(_Written):
    flops: _Spent
    device_seconds: _Spent
    wall_seconds: _Spent
    cpu_seconds: _Spent


class _Manifest(_Written):
    key: str
    kind: Annotated[str, Field(pattern=r"^[a-z_]{1,100}$")]
    inputs: list[str]
    facts: dict[str, Any]
    cost: _Cost
    blobs: dict[_Name, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
