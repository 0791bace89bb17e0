"""The rules by which trials of a search are stopped early."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from raydisc.config.sections import Count, Section


class AshaConfig(Section):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): at each rung the better trials go on."""

    first: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The FLOPs of the first rung, as a share of those of the space's cheapest trial."""
    factor: Annotated[float, Field(ge=2)] = 3.0
    """At each rung one trial in this number goes on, and the next rung is dearer by the same factor."""


class MedianConfig(Section):
    """The median rule: a trial stops where it is worse than the median of others at the same FLOPs."""

    first: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The FLOPs before which no trial is stopped, as a share of those of the space's cheapest trial."""
    trials: Count = 3
    """The number of trials that a median is taken of at least."""


def or_named(schema: dict[str, Any]) -> None:
    """Add the short form of a rule, its name, to the JSON schema of a setting."""
    schema["anyOf"].insert(0, {"enum": list(StoppingConfig.model_fields)})


class StoppingConfig(Section):
    """The rule by which trials are stopped early: ``asha`` or ``median``, by name or with its options."""

    asha: AshaConfig | None = None
    """Asynchronous successive halving."""
    median: MedianConfig | None = None
    """The median rule."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {data: {}} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.asha is None) == (self.median is None):
            raise ValueError("should name one rule: asha or median")
        return self
