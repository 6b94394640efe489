"""Changes of level in a short series: found where they are, and hardly ever where none is."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats
from tools import power

from livecheck.report.change_points import MIN_VALUES, find_steps, two_sided

STEADY = [100.0, 101.0, 99.5, 100.5, 99.0, 100.2]
SLOWER = [120.0, 121.0, 119.5, 120.5, 119.0]


def test_the_p_of_student_is_that_of_scipy() -> None:
    for df in range(1, 31):
        for t in (0.0, 0.3, 1.0, 2.5, 6.0, 20.0):
            assert two_sided(t, df) == pytest.approx(2 * stats.t.sf(t, df), abs=1e-12)


def test_a_step_is_found_with_its_place_and_its_levels() -> None:
    (found,) = find_steps([*STEADY, *SLOWER], 0.01)
    assert found.index == 6 and found.p < 1e-4
    assert (found.before, found.after) == pytest.approx((100.0, 120.0), abs=0.1)


def test_a_step_there_and_back_again_is_two() -> None:
    assert [each.index for each in find_steps([*STEADY, *SLOWER, *STEADY], 0.01)] == [6, 11]


def test_one_value_unlike_the_others_is_no_new_level() -> None:
    assert find_steps([*STEADY, 130.0, *STEADY], 0.05) == []
    assert find_steps([*STEADY, *STEADY, 130.0], 0.05) == []


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 30, SLOWER[: MIN_VALUES - 1]])
def test_too_few_or_equal_values_have_no_step(values: list[float]) -> None:
    assert find_steps(values, 0.05) == []


def test_values_that_are_equal_but_for_a_step_have_one() -> None:
    assert [each.index for each in find_steps([1.0] * 4 + [2.0] * 4, 0.05)] == [4]


def test_a_step_smaller_than_the_least_is_not_marked() -> None:
    assert find_steps([*STEADY, *SLOWER], 0.01, least=25.0) == []


@pytest.mark.parametrize("count", [6, 10, 20, 30])
def test_series_without_a_change_hardly_ever_have_one(count: int) -> None:
    chance = numpy.random.default_rng(count)
    found = [bool(find_steps(chance.normal(size=count).tolist(), 0.05)) for _ in range(300)]
    assert sum(found) / 300 <= 0.08  # 5 %, and what 300 draws may differ by


def test_large_changes_are_found_in_histories_of_twenty_releases() -> None:
    chance = numpy.random.default_rng(3)
    assert power.found_steps(chance, 20, 60, 5.0, 10) >= 0.95
    assert power.found_steps(chance, 20, 60, 5.0, 7, 14) >= 0.9
