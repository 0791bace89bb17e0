"""Contract tests for classes that extend raydisc: derive from a suite, give it a fixture, and run it with pytest."""

try:
    import pytest
except ImportError as error:
    raise ImportError("raydisc.testing needs pytest; install it with `pip install pytest`") from error

_SUITES = ("families", "losses", "metrics", "schedules", "stages", "storage", "structures", "tasks", "tolerance")
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _SUITES))
