"""The base class of raydisc's callbacks of Tune. Import this inside a ``ray_session``, as Tune is."""

from typing import Any

from ray import tune


class Watcher(tune.Callback):
    """A callback that is not kept: Tune pickles its callbacks with its state, which is never restored."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to keep: terminals, threads and handles have no pickle."""
        return {}
