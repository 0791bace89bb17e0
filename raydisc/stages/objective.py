"""The part of a distillation section that says how far two models are apart."""

from dataclasses import dataclass

from raydisc.config.sections import DistillationConfig


@dataclass(frozen=True)
class Objective:
    """The distance between student and teacher that is minimised.

    Attributes:
        losses: Pairs of a loss's name and its weight, sorted by name.
        temperature: The number that logits of both are divided by.
        layer_mapping: The hidden states that are compared, by a rule's name or as pairs of layers.
        top_tokens: The number of the teacher's likeliest tokens that are compared in a language task.
    """

    losses: tuple[tuple[str, float], ...]
    temperature: float
    layer_mapping: str | tuple[tuple[int, ...], ...]
    top_tokens: int

    @staticmethod
    def of(config: DistillationConfig) -> "Objective":
        """Return the objective of a distillation section."""
        mapping = config.layer_mapping
        return Objective(
            losses=tuple(sorted(config.losses.items())),
            temperature=config.temperature,
            layer_mapping=mapping if isinstance(mapping, str) else tuple(tuple(pair) for pair in mapping),
            top_tokens=config.top_tokens,
        )
