"""What an adapter says of a family of Hugging Face models, so that nothing else needs to ask which family it is."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from raydisc.families.units import LayerUnits

Config = Any
"""A Hugging Face configuration object."""

Mask = Literal["additive", "tokens", "none"]
"""What a model is given where a batch has padding (behind the tokens, always): ``additive``, what attention adds to its
scores; ``tokens``, ones and zeros, of which the model makes masks of its own, such as those of sliding windows;
``none``, since no token attends to what follows it."""


@dataclass(frozen=True)
class Head:
    """What a classifier multiplies beside its layers, for its cost.

    Attributes:
        tokenwise: paths of the linears that read every token; all others read one vector for each row.
        attended: width of an attention in which one query of each row looks at all tokens and itself; 0 for none.
    """

    tokenwise: tuple[str, ...] = ()
    attended: int = 0


class Family(Protocol):
    """What an adapter says of a family of models."""

    @property
    def model_type(self) -> str:
        """The ``model_type`` of the family's configurations."""
        ...

    @property
    def predicts_next(self) -> bool:
        """Whether the family has a language model, which predicts the next token, beside its classifier."""
        ...

    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """The units of every layer of a model with this configuration, first layer first.

        Raises:
            InputError: a configuration whose units cannot be told.
        """
        ...

    def head(self, config: Config) -> Head:
        """What its classifier computes beside the layers."""
        ...

    def mask(self, config: Config) -> Mask:
        """What its models are given of padding."""
        ...

    def classifier(self) -> Any:
        """The class, or auto class, whose ``from_config`` and ``from_pretrained`` make its sequence classifiers."""
        ...

    def token_classifier(self) -> Any:
        """The same of those that classify every token."""
        ...

    def plain(self, config: Config, heads: int, neurons: int) -> Config | None:
        """The configuration of a plain Hugging Face model that has so many units in every layer; None without one."""
        ...

    def fit(self, config: Config, pad_id: int | None) -> None:
        """Put into a configuration what a classifier needs to know of batches that are padded with ``pad_id``.

        Raises:
            InputError: it has to know, but the tokenizer has no padding token (``pad_id`` None).
        """
        ...
