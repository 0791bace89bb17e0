"""The registry of losses, whose names stand in ``distillation.losses``.

Losses lie in a folder above this one, and in other packages. They are known here by name only, so that a mistyped name
in an experiment file is refused before anything else is imported.
"""

from typing import Any

from raydisc.registry import Registry

LOSSES: Registry[Any] = Registry(
    "raydisc.losses",
    "loss",
    "raydisc.losses.base:Loss",
    shipped={
        "hidden_mse": "raydisc.losses.hidden:HiddenMSE",
        "hidden_cosine": "raydisc.losses.hidden:HiddenCosine",
        "soft_cross_entropy": "raydisc.losses.logits:SoftCrossEntropy",
        "kl_forward": "raydisc.losses.logits:ForwardKL",
        "kl_reverse": "raydisc.losses.logits:ReverseKL",
        "kl_symmetric": "raydisc.losses.logits:SymmetricKL",
        "jsd": "raydisc.losses.logits:JensenShannon",
        "logit_mse": "raydisc.losses.logits:LogitMSE",
        "label": "raydisc.losses.labels:Label",
    },
)
"""Every loss by its name in experiment files; see ``raydisc.losses.base.Loss`` for how to add one."""
