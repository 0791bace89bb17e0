"""The base class of the adapters through which raydisc prunes a family of Hugging Face models."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from raydisc.families.units import LayerUnits

Config = Any
"""A Hugging Face configuration object."""

Mask = Literal["additive", "tokens", "none"]
"""The form in which a model receives the padding of a batch, which always stands at the end of a row: ``additive``, as
numbers that attention adds to its scores; ``tokens``, as ones and zeros, of which the model makes its own masks, such
as those of sliding windows; ``none``, since no token attends to those behind it."""


@dataclass(frozen=True)
class Head:
    """The computations of a classification head, for the cost of a forward.

    Attributes:
        tokenwise: Paths of the linears that read every token; all others read one vector for each row.
        attended: Width of an attention in which one query of each row attends to all tokens and to itself; 0 without
            one.
    """

    tokenwise: tuple[str, ...] = ()
    attended: int = 0


class Family(ABC):
    """An adapter: the only part of raydisc that knows how the models of a family are built.

    A subclass has to say where the units of each layer are. The other methods have defaults that suit encoders that
    are built like BERT. The prunable linears of a layer must be ``torch.nn.Linear`` modules.

    An instance is added with ``FAMILIES.register``, or by an installed package that lists it under the entry-point
    group ``raydisc.families``. A package whose models are not part of transformers registers their classes with
    ``AutoConfig`` and the auto classes of models in the module that defines the adapter.
    ``raydisc.testing.families.FamilyContract`` tests an adapter.

    Attributes:
        model_type: The ``model_type`` of the family's configurations.
        predicts_next: Whether the family has language models, which predict the next token, beside its classifiers.
        unnamed_settings: Settings that models read from a configuration whose class does not name them.

    Example:
        >>> from raydisc.families.registry import FAMILIES
        >>> from transformers import BertConfig
        >>> bert = FAMILIES.get("bert")
        >>> len(bert.layers(BertConfig(num_hidden_layers=3)))
        3
        >>> bert.positions(BertConfig(max_position_embeddings=128))
        128
    """

    model_type: str
    predicts_next: bool = False
    unnamed_settings: tuple[str, ...] = ()

    @abstractmethod
    def layers(self, config: Config) -> tuple[LayerUnits, ...]:
        """Return the units of every layer of a model, first layer first.

        Raises:
            InputError: The configuration does not determine the units.
        """

    def head(self, config: Config) -> Head:
        """Return what a sequence classifier computes beside its layers.

        By default all its linears read one vector for each row.
        """
        return Head()

    def mask(self, config: Config) -> Mask:
        """Return the form in which models receive padding; by default all layers share one additive mask."""
        return "additive"

    def positions(self, config: Config) -> int | None:
        """Return the length of the longest row that a model can read, in tokens, or None if any length will do.

        By default that is the number of positions in the configuration, or the number to which rotary positions are
        stretched.
        """
        longest: int | None = getattr(config, "max_position_embeddings", None)
        rotary = getattr(config, "rope_parameters", None)
        if longest is None or rotary is None:
            return longest
        # Some configurations give the stretched number as `max_position_embeddings`.
        stretched = float(rotary.get("factor") or 1.0) * (rotary.get("original_max_position_embeddings") or longest)
        return max(longest, int(stretched))

    def classifier(self) -> Any:
        """Return the class, or auto class, whose ``from_config`` and ``from_pretrained`` make sequence classifiers."""
        return AutoModelForSequenceClassification

    def token_classifier(self) -> Any:
        """Return the class, or auto class, whose ``from_config`` and ``from_pretrained`` make token classifiers."""
        return AutoModelForTokenClassification

    def stored_names(self, name: str) -> tuple[str, ...]:
        """Return the names under which a checkpoint may hold a weight, the most likely first.

        By default these are the weight's own name in a classifier, and that name without its first part: checkpoints
        of an encoder or decoder alone leave out its name.

        Args:
            name: The weight's name in a classifier or language model.
        """
        inner = name.partition(".")[2]
        return (name, inner) if inner else (name,)

    def plain(self, config: Config, heads: int, neurons: int) -> Config | None:
        """Return the configuration of a plain Hugging Face model with these units in every layer.

        By default there is no such model, which is right where the size of a head follows from the number of heads.

        Args:
            config: The teacher's configuration.
            heads: Heads in every layer.
            neurons: Neurons in every layer.

        Returns:
            The configuration, or None if no plain model can have these units.
        """
        return None

    def fit(self, config: Config, pad_id: int | None) -> None:
        """Write into a configuration what a classifier has to know about batches; by default nothing.

        Args:
            config: The configuration, changed in place.
            pad_id: The token that pads batches; None if the tokenizer has no padding token.

        Raises:
            InputError: The classifier needs a padding token, but ``pad_id`` is None.
        """
        return
