"""The effects that a schedule with an assistant may owe its student to, as differences of students.

A schedule that chooses an assistant differs from KD in the model distilled from, in initial weights and in compute.
Beside its controls each of them is a difference of two students that have all else in common:

- the whole: the schedule minus ``kd_equal_compute``;
- the model distilled from: the schedule minus ``kd_from_supernet``, and ``takd_smallest`` minus ``kd_from_assistant``;
- initial weights: ``kd_from_supernet`` minus ``kd_equal_compute``;
- searching: the schedule minus ``takd_smallest`` or ``takd_middle``, whose assistant nobody chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raydisc.schedules.base import Control
from raydisc.schedules.controls import (
    KdEqualCompute,
    KdFromAssistant,
    KdFromSupernet,
    TakdMiddle,
    TakdSmallest,
)

Part = Literal["whole", "teaching", "initial_weights", "searching"]
"""The part of a schedule that an effect belongs to."""


@dataclass(frozen=True)
class Contrast:
    """Two students whose difference estimates an effect.

    Attributes:
        above: The control whose student is subtracted from; None for the schedule beside which the controls stand.
        below: The control whose student is subtracted.
    """

    above: type[Control] | None
    below: type[Control]


@dataclass(frozen=True)
class Effect:
    """An effect, which one difference estimates, or several together.

    Attributes:
        name: The name in ``raydisc show --json``.
        part: What it is an effect of.
        words: What differs, as the beginning of a sentence that goes on with "changes".
        noun: What is in question, in a list; of a search the assistant that it is compared with.
        contrasts: The differences whose mean estimates it.
    """

    name: str
    part: Part
    words: str
    noun: str
    contrasts: tuple[Contrast, ...]


EFFECTS = (
    Effect(
        "whole",
        "whole",
        "The whole schedule instead of KD with equal compute",
        "the whole schedule",
        (Contrast(None, KdEqualCompute),),
    ),
    Effect(
        "teaching",
        "teaching",
        "Distilling from the assistant instead of the teacher",
        "the model distilled from",
        (Contrast(None, KdFromSupernet), Contrast(TakdSmallest, KdFromAssistant)),
    ),
    Effect(
        "initial_weights",
        "initial_weights",
        "Starting from the supernet's weights instead of the teacher's",
        "the first weights",
        (Contrast(KdFromSupernet, KdEqualCompute),),
    ),
    Effect(
        "searching_smallest",
        "searching",
        "Searching for the assistant instead of taking the smallest one",
        "the smallest assistant",
        (Contrast(None, TakdSmallest),),
    ),
    Effect(
        "searching_middle",
        "searching",
        "Searching for the assistant instead of taking the middle one",
        "the middle assistant",
        (Contrast(None, TakdMiddle),),
    ),
)
"""The effects, in the order in which reports tell them."""
