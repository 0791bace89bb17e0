"""The structure of a model: which parts of its teacher it keeps.

Everything outside this folder builds, cuts, costs, saves and loads models by their structure and need not know what the
structure counts.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.units import LayerUnits
from raydisc.models.form import Form
from raydisc.registry import Registry
from raydisc.tensors.lazy_state import State

KIND = "structure"
"""The key that names the kind of a structure in JSON; it is left out for the widths of layers, the first kind."""

_FIRST_KIND = "widths"


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        measured_scale: Share of the teacher's prunable parameters (attention projections, feed-forward) that is kept.
        parameters: Parameters of the whole model, with embeddings, norms and head, which are never pruned.
    """

    measured_scale: float
    parameters: int


class Structure(ABC):
    """The parts of a teacher that a model keeps.

    Structures are values: frozen, hashable and equal where they keep the same. ``config`` is always the configuration
    of the teacher, whatever the structure keeps of it. A forecast of memory runs models on tensors without contents, so
    that shapes inside a model may not depend on the numbers in it.

    Attributes:
        kind: The name of the kind in JSON.
    """

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def full(cls, config: Config) -> Self:
        """Return the structure that keeps everything."""

    @classmethod
    def of_candidate(cls, candidate: "Structure", **settings: Any) -> "Structure":
        """Return the structure of this kind that a student has in place of its candidate's widths; see ``formed``.

        Args:
            candidate: The candidate's structure.
            settings: The settings of the form.
        """
        raise InputError(f"the structure '{cls.kind}' is not one that a student can be given")

    @classmethod
    @abstractmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the structure that ``to_json`` describes; keys of others are ignored.

        Raises:
            ValueError: The values do not describe a structure.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the structure as JSON values."""

    @abstractmethod
    def fits(self, config: Config) -> bool:
        """Whether a teacher has everything that the structure keeps."""

    def model_config(self, config: Config) -> Config:
        """Return the configuration of the transformers model that ``shape`` completes."""
        return config

    @abstractmethod
    def shape(self, model: nn.Module, config: Config) -> None:
        """Give a new model of ``model_config`` the shape of this structure, in place; its weights are meaningless."""

    @abstractmethod
    def cut(self, state: State, config: Config) -> State:
        """Return the part of some weights that the structure keeps.

        Args:
            state: The weights of the teacher, or of a model that keeps at least as much; sorted by importance.
            config: The configuration of the teacher.

        Returns:
            Weights that are cut when they are asked for; they share the memory of ``state`` where that is possible.
        """

    @abstractmethod
    def flops(self, layers: Sequence[LayerUnits], batch_size: int, length: int) -> int:
        """Return the matrix-multiply FLOPs of a forward through the transformer layers, padding included.

        Args:
            layers: The units of the teacher's layers.
            batch_size: Number of rows.
            length: Tokens of each row.
        """

    @abstractmethod
    def size(self, config: Config, teacher_parameters: int) -> Size:
        """Return the size of the model.

        Args:
            config: The configuration of the teacher.
            teacher_parameters: Parameters of the whole teacher.
        """

    def plain(self, config: Config) -> Config | None:
        """Return the configuration of the plain Hugging Face model with this structure; None without such a model."""
        return None


STRUCTURES: Registry[type[Structure]] = Registry(
    "raydisc.structures",
    "kind of structure",
    Structure,
    shipped={_FIRST_KIND: "raydisc.models.widths:Widths"},
    key="kind",
)
"""Every kind of structure by its name in JSON."""


def full_structure(config: Config) -> Structure:
    """Return the structure of the teacher itself."""
    return STRUCTURES.get(_FIRST_KIND).full(config)


def formed(candidate: Structure, form: Form | None) -> Structure:
    """Return the structure of a student of a form whose candidate has a structure; None keeps the candidate's.

    Raises:
        InputError: No kind of structure has the form's name, or it is not one that a student can be given.
    """
    return candidate if form is None else STRUCTURES.get(form.kind).of_candidate(candidate, **dict(form.settings))


def structure_to_json(structure: Structure) -> dict[str, Any]:
    """Return a structure as JSON values that ``structure_from_json`` reads."""
    named = {} if structure.kind == _FIRST_KIND else {KIND: structure.kind}
    return named | structure.to_json()


def structure_from_json(values: Mapping[str, Any]) -> Structure:
    """Return the structure in JSON values; keys that are not the structure's are ignored.

    Raises:
        InputError: The kind of structure is unknown.
        ValueError: The values do not describe a structure.
    """
    return STRUCTURES.get(str(values.get(KIND, _FIRST_KIND))).from_json(values)
