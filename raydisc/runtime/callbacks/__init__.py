"""Callbacks of Ray Tune. Import these inside a ``ray_session``: Ray reads its settings when imported."""
