"""Schedules: ways to get from the teacher to the student, each as short as a paper's method section."""

from typing import Any, cast

from raydisc.config.schedules import SCHEDULES as _NAMED
from raydisc.registry import Registry
from raydisc.schedules.base import Schedule

SCHEDULES = cast("Registry[type[Schedule[Any]]]", _NAMED)
"""The schedules, by name."""
