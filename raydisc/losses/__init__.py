"""Distillation losses, one file per group, and the registry of their names.

Example:
    >>> LOSSES.names()[:3]
    ('hidden_mse', 'hidden_cosine', 'soft_cross_entropy')
"""

from raydisc.config.losses import LOSSES as _NAMED
from raydisc.losses.base import Loss
from raydisc.registry import Registry

LOSSES: Registry[type[Loss]] = _NAMED
"""Every loss by its name in experiment files; see ``Loss`` for how to add one."""
