"""The dropout that a stage trains with."""

from torch import nn


def set_dropout(model: nn.Module, probability: float | None) -> None:
    """Give every dropout of a model one probability, attention's included; None leaves the configuration's.

    Attention asks its own ``nn.Dropout`` for the probability, in every implementation of it, or keeps it as a number.
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
