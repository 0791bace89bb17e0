"""What raydisc's callbacks of Tune have in common. Import this inside a ``ray_session``, as Tune is."""

from typing import Any

from ray import tune


class Watcher(tune.Callback):
    """A callback that is not kept: Tune pickles its callbacks with its state, which is never restored."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: terminals, threads and handles have no pickle."""
        return {}
