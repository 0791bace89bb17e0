"""Artifacts: what a stage leaves behind."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class NotYetKnown(RuntimeError):
    """A fact was asked of a stage that has not been computed: a schedule cannot be foreseen beyond here."""


@dataclass(frozen=True)
class Cost:
    """What a stage costs when it is computed once, undisturbed.

    Attributes:
        flops: executed matrix-multiply FLOPs, by formula, padding included.
        device_seconds: seconds times devices held.
        wall_seconds: seconds.
        cpu_seconds: process time, user and system.
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
        kind: the stage's kind.
        inputs: keys of the stages it was made from.
        facts: what the stage found (metrics, sizes …), or None before it is computed.
        cost: what it cost.
        blobs: SHA-256 of each file by name.
    """

    key: str
    kind: str
    inputs: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None
    cost: Cost = field(default_factory=Cost)
    blobs: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """A fact.

        Raises:
            NotYetKnown: the stage has not been computed.
        """
        return self._known()[name]

    @property
    def flops(self) -> float:
        """What the stage executed.

        Raises:
            NotYetKnown: the stage has not been computed.
        """
        self._known()
        return self.cost.flops

    def _known(self) -> Mapping[str, Any]:
        if self.facts is None:
            raise NotYetKnown(f"stage {self.kind} {self.key[:12]} has not been computed")
        return self.facts

    def manifest(self) -> dict[str, Any]:
        """The artifact as JSON."""
        return asdict(self)

    @staticmethod
    def from_manifest(manifest: Mapping[str, Any]) -> "Artifact":
        """The artifact from its JSON."""
        return Artifact(
            key=manifest["key"],
            kind=manifest["kind"],
            inputs=tuple(manifest["inputs"]),
            facts=manifest["facts"],
            cost=Cost(**manifest["cost"]),
            blobs=manifest["blobs"],
        )
