"""Training that is interrupted on some workers and goes on, on others."""

from lessons import trained


def interrupted(rank, folder, until):
    """Four steps with a checkpoint after each, ended in the middle of the last."""
    return trained(rank, "bert", "adamw", folder, steps=6, every_s=-1.0, until=until)


def resumed(rank, folder):
    """The rest of six steps."""
    return trained(rank, "bert", "adamw", folder, steps=6)
