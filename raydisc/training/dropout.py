"""The dropout that a stage trains with."""

from torch import nn


def set_dropout(model: nn.Module, probability: float | None) -> None:
    """Set the probability of every dropout of a model, attention included; None leaves them as they are.

    Attention takes the probability from an ``nn.Dropout`` of its own or keeps it as a number, in every implementation.
    A probability of 0 also lets attention use its fused kernel on a CPU, and draws no random numbers.
    """
    if probability is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), int | float):
                setattr(module, name, probability)
