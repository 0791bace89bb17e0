"""Trials that hang. Import this inside a ``ray_session``: Ray reads its settings when imported."""

import time
from typing import Any

import ray

from raydisc.runtime.callbacks.base import Watcher
from raydisc.runtime.ray_internals import actor_of


class StallWatch(Watcher):
    """Ends the process of a trial that has reported nothing for too long; Tune starts it again, as after a crash.

    A trial reports every batch of a stage, and while it waits for a stage that another process computes.

    Args:
        minutes: The longest silence of a trial; None watches no trial.
    """

    def __init__(self, minutes: float | None) -> None:
        """Start with nothing heard."""
        self._silence_s = float("inf") if minutes is None else 60 * minutes
        self._heard: dict[str, float] = {}
        self._ended: set[str] = set()

    def hung(self, trial_id: str) -> str | None:
        """Return why a trial's process was ended; None where it was not ended here."""
        if trial_id not in self._ended:
            return None
        return f"it reported nothing for {self._silence_s / 60:g} minutes (resources.stall_minutes)"

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note that a process begins."""
        self._heard[trial.trial_id] = time.monotonic()
        self._ended.discard(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Note that a trial has reported something."""
        self._heard[trial.trial_id] = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """End the trials that have been silent for too long; Tune calls this several times a second."""
        now = time.monotonic()
        for trial in trials:
            silent = now - self._heard.get(trial.trial_id, now) > self._silence_s
            actor = actor_of(trial)
            if silent and trial.status == "RUNNING" and actor is not None and trial.trial_id not in self._ended:
                self._ended.add(trial.trial_id)
                ray.kill(actor)
