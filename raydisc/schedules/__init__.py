"""Schedules: ways to get from the teacher to the student, each as short as a paper's method section.

Example:
    >>> SCHEDULES.names()[:4]
    ('kd', 'takd', 'maxidisc', 'minidisc')
"""

from typing import Any, cast

from raydisc.config.schedules import SCHEDULES as _NAMED
from raydisc.registry import Registry
from raydisc.schedules.base import Schedule

SCHEDULES = cast("Registry[type[Schedule[Any]]]", _NAMED)
"""The schedules, by name."""
