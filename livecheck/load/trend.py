"""Whether a series of figures drifts, and how fast. Pure, and without numpy.

The test of Mann (1945) and Kendall (1975) asks how many of all pairs of values rise: it needs no
distribution, and outliers do not matter. It takes values for independent, which those of a server
are not: requests share a batch, a queue and the load of others, and such a series wanders, so that
the plain test sees trends where there are none. Hamed and Rao (1998) multiply its variance by what
the autocorrelation of the ranks says, once the trend is taken off. That alone is too little for a
short series, of which the autocorrelation is estimated too low: the variance here is the larger one
of theirs and of that of a process whose values depend on the one before, with the bias taken off
its coefficient (Marriott and Pope 1954; the variance as by Yue and Wang 2004). What is taken off is
a parabola of the ranks, where they take a line of the values: any growth that is steep or flattens
would else look like an autocorrelation, and hide itself. The bias is larger for it. The slope is
the median of the slopes of all pairs (Theil 1950, Sen 1968). What comes of it:
tests/tools/power.py --table trend.

Mann, H. B. (1945), "Nonparametric tests against trend", Econometrica 13, 245-259. Kendall, M. G.
(1975), "Rank correlation methods", 4th edition. Hamed, K. H. and Rao, A. R. (1998), "A modified
Mann-Kendall trend test for autocorrelated data", Journal of Hydrology 204, 182-196. Yue, S. and
Wang, C. (2004), "The Mann-Kendall test modified by effective sample size to detect trend in
serially correlated hydrological series", Water Resources Management 18, 201-218. Marriott, F. H. C.
and Pope, J. A. (1954), "Bias in the estimation of autocorrelations", Biometrika 41, 390-402. Sen,
P. K. (1968), "Estimates of the regression coefficient based on Kendall's tau", Journal of the
American Statistical Association 63, 1379-1389.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from livecheck.wire.metrics import percentile

LEAST_POINTS = 25  # of fewer the autocorrelation cannot be told
MOST_POINTS = 50  # all pairs are looked at; and medians of more values depend less on each other
# An autocorrelation r of n values is estimated too low by (1 + 4 r) / n when their mean is taken
# off (Marriott and Pope 1954), by about this much, as simulated, when a parabola is.
BIAS, BIAS_OF_MEMORY = 3, 8
NOTHING = 1e-12  # of squares: what is left of a sum that should be 0
MOST_MEMORY = 0.95
SIGNIFICANT = 1.959964  # of an autocorrelation, in standard errors: 95 %


@dataclass(frozen=True)
class Trend:
    """p: of "it does not rise" (one-sided). slope: of the values in a unit of time. points: how
    many values were tested. inflation: by how much the variance exceeds that of independent values.
    """

    p: float
    slope: float
    points: int
    inflation: float


def find_trend(times: Sequence[float], values: Sequence[float]) -> Trend | None:
    """Whether the values rise; None when there are fewer than LEAST_POINTS. Times ascend."""
    count = len(values)
    if count < LEAST_POINTS:
        return None
    slope = theil_sen(times, values)
    score = sum(sign(later - earlier) for earlier, later in combinations(values, 2))
    left = without_curve(times, ranks(values))
    inflation = max(1.0, hamed_rao(left), first_order(left))
    variance = plain_variance(values) * inflation
    # the score moves in steps of 2: half a step is taken off, as is usual
    z = (score - sign(score)) / math.sqrt(variance) if variance else 0.0
    return Trend(normal_tail(z), slope, count, inflation)


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """The median slope of all pairs; 0 when all times are the same."""
    pairs = combinations(zip(times, values, strict=True), 2)
    slopes = [(v - u) / (t - s) for (s, u), (t, v) in pairs if t > s]
    return percentile(slopes, 50) if slopes else 0.0


def without_curve(times: Sequence[float], values: Sequence[float]) -> list[float]:
    """What is left of the values when the parabola that fits them best is taken off."""
    left = apart(values)
    line = apart(times)
    curve = minus_share(apart([each * each for each in line]), line)
    return minus_share(minus_share(left, line), curve)


def apart(values: Sequence[float]) -> list[float]:
    """The values without their mean."""
    middle = mean(values)
    return [value - middle for value in values]


def minus_share(values: Sequence[float], other: Sequence[float]) -> list[float]:
    """The values without that part of them which is a multiple of the others."""
    whole = math.fsum(each * each for each in other)
    both = math.fsum(a * b for a, b in zip(values, other, strict=True))
    return (
        [a - both / whole * b for a, b in zip(values, other, strict=True)] if whole else [*values]
    )


def plain_variance(values: Sequence[float]) -> float:
    """Of the score of independent values (Kendall 1975), fewer where some are equal."""
    ties = (count for count in Counter(values).values() if count > 1)
    return (weight(len(values)) - sum(map(weight, ties))) / 18


def weight(count: int) -> float:
    return count * (count - 1) * (2 * count + 5)


def hamed_rao(values: Sequence[float]) -> float:
    """The factor of Hamed and Rao (1998), equation 12, from the significant autocorrelations."""
    count = len(values)
    total = sum(
        (count - lag) * (count - lag - 1) * (count - lag - 2) * each
        for lag, each in enumerate(autocorrelations(ranks(values)), 1)
        if abs(each) > SIGNIFICANT / math.sqrt(count)
    )
    return 1 + 2 * total / (count * (count - 1) * (count - 2))


def first_order(values: Sequence[float]) -> float:
    """The factor for a process of first order: 1 + 2 sum of (1 - k / n) r^k."""
    count = len(values)
    seen = next(autocorrelations(ranks(values)), 0.0)
    bias = (BIAS + BIAS_OF_MEMORY * max(0.0, seen)) / count
    own = min(MOST_MEMORY, seen + bias)
    if own <= 0:
        return 1.0
    return 1 + 2 * sum((1 - lag / count) * own**lag for lag in range(1, count))


def autocorrelations(values: Sequence[float]) -> Iterator[float]:
    """Those of the lags 1, 2 ... n - 1."""
    centred = apart(values)
    whole = math.fsum(each * each for each in centred)
    whole = whole if whole > NOTHING * len(values) else 0.0
    for lag in range(1, len(values)):
        both = zip(centred, centred[lag:], strict=False)
        yield math.fsum(a * b for a, b in both) / whole if whole else 0.0


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    bounds = [0, *(n for n, (a, b) in enumerate(pairwise(order), 1) if values[a] < values[b])]
    for begin, end in pairwise([*bounds, len(values)]):
        for place in order[begin:end]:
            found[place] = (begin + 1 + end) / 2
    return found


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


def normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def in_points(series: Sequence[tuple[float, float]], least: int) -> tuple[list[float], list[float]]:
    """(time, value) as at most MOST_POINTS medians of as many consecutive values each, and at least
    `least` of them: requests that run at the same time are not independent of each other. What is
    left over is left out at the beginning."""
    size = max(1, least, math.ceil(len(series) / MOST_POINTS))
    parts = [series[n : n + size] for n in range(len(series) % size, len(series), size)]
    times = [mean([time for time, _ in part]) for part in parts]
    return times, [percentile([value for _, value in part], 50) for part in parts]
