"""The test for a trend, against values that were computed elsewhere, and on simulated series."""

from __future__ import annotations

import math
import random

import pytest

from livecheck.load.trend import (
    LEAST_POINTS,
    MOST_POINTS,
    autocorrelations,
    find_trend,
    first_order,
    hamed_rao,
    in_points,
    normal_tail,
    plain_variance,
    ranks,
    theil_sen,
    without_curve,
)

# A series with ties, computed by hand from the formulas
TIED = [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]


def noisy(count: int, memory: float, seed: int, sigma: float = 0.1) -> list[float]:
    chance = random.Random(seed)
    state, found = chance.gauss(0, 1), []
    for _ in range(count):
        state = memory * state + math.sqrt(1 - memory**2) * chance.gauss(0, 1)
        found.append(sigma * state)
    return found


def test_the_variance_of_the_score_is_kendalls() -> None:
    assert plain_variance([float(n) for n in range(10)]) == 125  # 10 * 9 * 25 / 18
    ties = 2 * 1 * 9 + 3 * 2 * 11
    assert plain_variance(TIED) == pytest.approx((6 * 5 * 17 - ties) / 18)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks([5.0, 1.0, 5.0, 9.0]) == [2.5, 1, 2.5, 4]
    assert ranks(TIED) == [1, 2.5, 2.5, 5, 5, 5]


def test_the_slope_is_the_median_of_all_pairs() -> None:
    times = [0.0, 1.0, 2.0, 4.0]
    assert theil_sen(times, [1.0, 3.0, 5.0, 9.0]) == 2
    outlier = [1.0, 3.0, 900.0, 7.0, 9.0, 11.0]
    assert theil_sen([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], outlier) == 2, "an outlier changes nothing"
    assert theil_sen([1.0, 1.0], [1.0, 2.0]) == 0


def test_a_parabola_is_taken_off_as_a_whole() -> None:
    times = [0.0, 1.0, 3.0, 4.0, 7.0]
    assert without_curve(times, [2 - t + 3 * t * t for t in times]) == pytest.approx([0.0] * 5)
    left = without_curve([0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 0.0])
    assert left == pytest.approx([0.15, -0.45, 0.45, -0.15])


def test_a_growth_that_flattens_does_not_hide_itself() -> None:
    chance = random.Random(1)
    values = [0.4 * (1 - math.exp(-n / 10)) + chance.gauss(0, 0.02) for n in range(40)]
    found = find_trend([float(n) for n in range(40)], values)
    assert found and found.p < 1e-3


def test_autocorrelations_are_those_of_the_definition() -> None:
    found = list(autocorrelations([1.0, -1.0, 1.0, -1.0]))
    assert found == [-0.75, 0.5, -0.25]
    assert list(autocorrelations([2.0, 2.0])) == [0]


def test_series_that_wander_have_more_variance_than_independent_ones() -> None:
    free = [hamed_rao(noisy(50, 0.0, seed)) for seed in range(50)]
    bound = [hamed_rao(noisy(50, 0.8, seed)) for seed in range(50)]
    assert sum(free) / 50 < 1.5 < 3 < sum(bound) / 50
    assert first_order(noisy(400, 0.8, 1)) == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.35)
    assert first_order([(-1.0) ** n for n in range(50)]) == 1


def test_the_normal_distribution_is_the_tables() -> None:
    assert normal_tail(1.959964) == pytest.approx(0.025, abs=1e-6)
    assert normal_tail(0) == 0.5


def test_a_trend_is_found_and_one_that_falls_is_not_one_that_rises() -> None:
    times = [float(n) for n in range(40)]
    rising = [0.02 * n + each for n, each in enumerate(noisy(40, 0.3, 3))]
    found = find_trend(times, rising)
    assert found and found.p < 1e-3
    assert found.slope == pytest.approx(0.02, rel=0.3)
    falling = find_trend(times, [-each for each in rising])
    assert falling and falling.p > 0.99


def test_of_too_few_or_equal_values_nothing_is_said() -> None:
    few = [float(n) for n in range(LEAST_POINTS - 1)]
    assert find_trend(few, few) is None
    same = find_trend([float(n) for n in range(30)], [1.0] * 30)
    assert same and (same.p, same.slope) == (0.5, 0)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.7])
def test_false_alarms_are_rare_although_neighbours_are_alike(memory: float) -> None:
    times, count = [float(n) for n in range(40)], 150
    found = [find_trend(times, noisy(40, memory, seed)) for seed in range(count)]
    assert sum(each.p < 0.0025 for each in found if each) <= 0.04 * count


def test_long_series_become_medians_of_parts() -> None:
    series = [(float(n), float(n % 10)) for n in range(1007)]
    times, values = in_points(series, 1)
    assert len(times) == len(values) <= MOST_POINTS
    assert times[-1] == pytest.approx(1006 - 10, abs=1), "the end is kept"
    times, _ = in_points(series[:64], 8)
    assert times == [3.5 + 8 * n for n in range(8)], "what ran at once is one value"
