"""--precision: how exact a median is, and when a level may stop."""

from __future__ import annotations

import math
import random
from statistics import median
from typing import Any

import pytest

from livecheck.load.precision import (
    LEAST,
    Precision,
    as_dict,
    first_look,
    inflation,
    median_interval,
    parse_share,
    words_of,
)
from tests.tools.power_of_load import Course, stops_at, wander


def answer(ttft_ms: float | None = 100.0, rate: float | None = 50.0, **more: Any) -> dict[str, Any]:
    return {"error": None, "ttft_ms": ttft_ms, "tokens_per_s": rate, **more}


def lognormal(count: int, noise: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [100 * chance.lognormvariate(0, noise) for _ in range(count)]


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 0.5 %", 0.005)])
def test_a_share_is_a_percentage_or_a_number(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "0", "0.1%", "60%", "-5%", "five", "", "5%%", "nan", "1e-2"])
def test_another_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a share from 0.5% to 50%, as in 5%"):
        parse_share(text)


def test_the_interval_is_made_of_order_statistics() -> None:
    """Of independent values: about 2.744 * 10 / 2 ranks to each side of the middle."""
    values = [float(n) for n in range(1, 101)]
    random.Random(4).shuffle(values)
    found = median_interval(values)
    assert found and found.middle == 50.5
    assert inflation(values, 50.5) < 1.6
    assert 36 >= found.low >= 50.5 - 2.744 * math.sqrt(160) / 2 - 1
    assert found.high - found.middle == pytest.approx(found.middle - found.low)
    assert found.half_width == (found.high - 50.5) / 50.5


def test_of_few_values_nothing_is_said() -> None:
    assert median_interval(lognormal(63, 0.1)) is None
    assert median_interval(lognormal(64, 0.1)) is not None


def test_values_that_resemble_each_other_count_for_fewer() -> None:
    chance, state, alike = random.Random(3), 0.0, []
    for _ in range(640):
        state = 0.9 * state + chance.gauss(0, 1)
        alike.append(100 + state)
    free = lognormal(640, 0.1)
    assert inflation(free, 100.0) < 2 < 5 < inflation(alike, 100.0)
    assert inflation([100.0] * 640, 100.0) == 1, "all are equal"


def test_rounds_that_wander_count_for_as_few_as_they_should() -> None:
    """Rounds of 8 that depend on the one before by 0.9: the variance of the number above the median
    is 106 times that of independent answers. The autocorrelations of "above or not" are those of
    a normal process: 2 / pi * asin(r)."""
    above = (2 / math.pi * math.asin(0.9**lag) for lag in range(1, 200))
    true, chance, found = 8 * (1 + 2 * sum(above)), random.Random(3), []
    for _ in range(60):
        following = wander(chance, 0.9)
        values = [each for _ in range(48) for each in [following()] * 8]
        found.append(inflation(values, median(values)))
    assert true == pytest.approx(106.2, abs=0.1)
    assert true < median(found) < 2.5 * true


def test_equal_values_are_exact_at_the_first_look() -> None:
    judge = Precision(0.05, 1)
    for count in range(LEAST + 1):
        assert not judge.is_reached, count
        judge.add(answer())
    assert judge.is_reached and (judge.looks, judge.used) == (1, LEAST)
    judge.add(answer(ttft_ms=9e9))
    assert judge.metrics("") == {
        "wanted_share": 0.05,
        "reached": True,
        "requests": LEAST,
        "looks": 1,
        "ttft_ms": {"p50": 100.0, "low": 100.0, "high": 100.0, "half_width_share": 0.0},
        "tokens_per_s": {"p50": 50.0, "low": 50.0, "high": 50.0, "half_width_share": 0.0},
    }


def test_noise_takes_more_answers_and_both_figures_count() -> None:
    for changed in ("ttft_ms", "tokens_per_s"):
        judge = Precision(0.05, 1)
        for value in lognormal(5000, 0.3):
            judge.add(answer() | {changed: value})
        assert judge.is_reached and judge.used > 4 * LEAST
        found = judge.found[changed]
        assert found and found.half_width <= 0.05


def test_the_first_answer_of_each_slot_and_failures_do_not_count() -> None:
    judge = Precision(0.05, 8)
    for _ in range(8):
        judge.add(answer(ttft_ms=5000.0))
    judge.add(answer(error="500"))
    judge.add(answer(ttft_ms=None))
    assert judge.values["ttft_ms"] == []
    judge.add(answer())
    assert judge.values["ttft_ms"] == [100.0]
    assert judge.next_look == first_look(8) == 128


def test_a_decode_rate_that_hardly_any_answer_tells_is_not_waited_for() -> None:
    judge = Precision(0.05, 1)
    for count in range(70):
        judge.add(answer(rate=50.0 if count % 3 == 0 else None))
    assert judge.is_reached
    assert judge.metrics("")["tokens_per_s"] is None
    assert words_of(judge.metrics("")).endswith("decode rate p50 not known")


def test_a_level_that_ends_before_says_how_exact_it_is_and_why() -> None:
    judge = Precision(0.05, 1)
    for value in lognormal(90, 0.3):
        judge.add(answer(ttft_ms=value))
    found = judge.metrics("its time of 60 s was over")
    assert (found["reached"], found["requests"], found["looks"]) == (False, 89, 2)
    assert found["ttft_ms"]["half_width_share"] > 0.05
    words = words_of(found)
    assert words.startswith("±5 % not reached (its time of 60 s was over) with 89 requests, 2 look")
    assert "decode rate p50 50.00 to 50.00 tok/s (±0.0 %)" in words
    assert as_dict(None) is None


@pytest.mark.parametrize(
    "course",
    [
        Course(1, 0.08, memory=0.0),
        Course(1, 0.08, memory=0.8),
        Course(8, 0.08, memory=0.5, alike=8),
        Course(8, 0.025, memory=0.9, alike=8),
    ],
)
def test_the_true_median_is_in_the_interval(course: Course) -> None:
    """The bar is 94 %; of 100 levels 88 or fewer are rarer than one in a hundred then."""
    chance, count = random.Random(11), 100
    ends = [stops_at(chance, course, 12_000) for _ in range(count)]
    assert sum(bool(is_right) for _, is_right in ends) > 88
