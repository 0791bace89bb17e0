"""Errors that a user of raydisc meets."""


class InputError(ValueError):
    """Something the user gave is wrong: the message says what, where, and what would be right."""


class NonFiniteLoss(RuntimeError):
    """A training loss stopped being a number; the message names the stage and the step."""
