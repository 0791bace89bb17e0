"""The registry of signals, by the field of ``Outputs`` that holds each.

Example:
    >>> SIGNALS.names()
    ('logits', 'hidden', 'tokens')
"""

from raydisc.registry import Registry
from raydisc.signals.base import Signal

SIGNALS: Registry[type[Signal]] = Registry(
    "raydisc.signals",
    "signal",
    Signal,
    shipped={
        "logits": "raydisc.signals.logits:Logits",
        "hidden": "raydisc.signals.hidden:HiddenStates",
        "tokens": "raydisc.signals.logits:LikeliestTokens",
    },
    key="field",
)
"""Every signal that can be kept; its name is also the name of its file."""

OF_EVERY_MODEL = ("logits", "hidden", "tokens")
"""The signals that are taken of every model, where the task and the losses have a use for them."""
