"""Contract tests for classes that extend raydisc: derive from a suite, give it a fixture, and run it with pytest."""
