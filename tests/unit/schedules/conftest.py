"""Fixtures of the schedule tests."""

from schedule_runs import mini, search, storage

__all__ = ["mini", "search", "storage"]
