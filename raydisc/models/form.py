"""The form of a student: the kind of structure that it has in place of its candidate's widths."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Form:
    """A kind of structure with its settings, which enter the keys of stages; to import it does not take torch.

    Attributes:
        kind: The name of the structure's kind.
        settings: Pairs of a setting of ``Structure.of_candidate`` and its value, as JSON values.

    Example:
        >>> Form.of("depth", layers=4)
        Form(kind='depth', settings=(('layers', 4),))
    """

    kind: str
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, kind: str, **settings: Any) -> "Form":
        """Return the form of a kind of structure with some settings."""
        return cls(kind, tuple(sorted(settings.items())))
