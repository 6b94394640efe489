"""Where a series of figures changes its level. Pure, and without numpy.

A history of releases is short: 6 to 30 values, and each is the median of many requests, so nearly
normal on its logarithm. For such a series the test of Worsley (1979) finds most: of all splits into
two parts the one with the largest Student's t, and its p by Bonferroni over the splits. A found
step splits the series, and both parts are tested again (binary segmentation, Scott and Knott 1974).
A part has at least two values: a single one that is unlike the others is no new level.

Compared on simulated histories (tests/tools/power.py --table history): E-divisive with a
permutation test (Matteson and James 2014) finds nothing in six values, because 20 permutations
cannot be unlikely; apache-otava's, with a t test after the search, is wrong in a third of the
histories at p = 0.05, and at its own 0.001 finds less. It would also bring 40 packages.

Worsley, K. J. (1979), "On the likelihood ratio test for a shift in location of normal populations",
Journal of the American Statistical Association 74, 365-367.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MIN_PART = 2
MIN_VALUES = 6  # of fewer nothing can be said
LEAST_ERROR = 1e-9  # of a difference: equal values have no noise


@dataclass(frozen=True)
class Step:
    """A change of level: the first value of the new level, and the means before and after.

    p: of "there is none", corrected for the splits.
    """

    index: int
    p: float
    before: float
    after: float


def find_steps(values: Sequence[float], level: float, least: float = 0.0) -> list[Step]:
    """The steps that are at least as large as `least`, with an error of `level`, in order."""
    found = sorted(search(values, 0, len(values), level, least))
    ends = [0, *(index for index, _ in found), len(values)]
    means = [statistics.fmean(values[begin:end]) for begin, end in pairwise(ends)]
    return [
        Step(index, p, before, after)
        for (index, p), (before, after) in zip(found, pairwise(means), strict=True)
    ]


def search(
    values: Sequence[float], begin: int, end: int, level: float, least: float
) -> list[tuple[int, float]]:
    """(index, p) of the steps between two positions."""
    part = values[begin:end]
    if len(part) < MIN_VALUES:
        return []
    splits = range(MIN_PART, len(part) - MIN_PART + 1)
    t, split = max((abs(student_t(part, each)), each) for each in splits)
    p = min(1.0, len(splits) * two_sided(t, len(part) - 2))
    size = abs(statistics.fmean(part[split:]) - statistics.fmean(part[:split]))
    if p > level or size < least:
        return []
    at = begin + split
    return [
        (at, p),
        *search(values, begin, at, level, least),
        *search(values, at, end, level, least),
    ]


def student_t(values: Sequence[float], split: int) -> float:
    """Student's t of the two parts, with a common variance."""
    parts = values[:split], values[split:]
    means = [statistics.fmean(part) for part in parts]
    squares = sum((x - m) ** 2 for part, m in zip(parts, means, strict=True) for x in part)
    variance = squares / (len(values) - 2) * sum(1 / len(part) for part in parts)
    return (means[1] - means[0]) / max(math.sqrt(variance), LEAST_ERROR)


def two_sided(t: float, df: int) -> float:
    """The p of Student's t, for a whole number of degrees of freedom.

    The finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan2(abs(t), math.sqrt(df))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    term = total = 1.0 if df % 2 == 0 else math.cos(angle)
    for k in range(2 if df % 2 == 0 else 3, df - 1, 2):
        term *= square * (k - 1) / k
        total += term
    if df % 2 == 0:
        return max(0.0, 1 - sine * total)
    return max(0.0, 1 - 2 / math.pi * (angle + (sine * total if df > 1 else 0.0)))
