"""Schedules of the tests with their options, as steps to run or as trials."""

from dataclasses import replace

from raydisc.schedules.base import Trial
from raydisc.schedules.controls import KdEqualCompute, KdFromSupernet, TakdSmallest
from raydisc.schedules.kd import Kd, KdOptions
from raydisc.schedules.maxidisc import Maxidisc, MaxidiscOptions
from raydisc.schedules.minidisc import Minidisc, MinidiscOptions
from raydisc.schedules.takd import Takd, TakdOptions

KD = Kd(KdOptions())
MAXIDISC = Maxidisc(MaxidiscOptions())


def takd_with(*path) -> Takd:
    return Takd(TakdOptions(path=path))


def minidisc_with(lam=0.2, assistants=1, reinvest=True) -> Minidisc:
    return Minidisc(MinidiscOptions(lam=lam, assistants=assistants, reinvest=reinvest))


def along(search, path):
    """The steps of a path of assistants."""
    return MAXIDISC.steps(replace(search, path=path))


def minidisc(search, *options):
    return minidisc_with(*options).steps(search)


def kd_equal_compute(search, *options):
    return KdEqualCompute.of(minidisc_with(*options)).steps(search)


def kd_from_supernet(search, *options):
    return KdFromSupernet.of(minidisc_with(*options)).steps(search)


def takd_smallest(search, *options):
    return TakdSmallest.of(minidisc_with(*options)).steps(search)


def kd_trial(student, seed=0) -> Trial:
    return Trial(KD, student, seed)


def takd_trial(student, path, seed=0) -> Trial:
    return Trial(takd_with(*path), student, seed, path)


def maxidisc_trial(student, path, seed=0) -> Trial:
    return Trial(MAXIDISC, student, seed, path)


def minidisc_trial(student, seed=0, **options) -> Trial:
    return Trial(minidisc_with(**options), student, seed)
