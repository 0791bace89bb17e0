"""The comparison of numbers that contract tests and these tests share, under the name that these tests import."""

from raydisc.testing.tolerance import assert_all_near, assert_near, seen

__all__ = ["assert_all_near", "assert_near", "seen"]
