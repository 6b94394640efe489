"""Which limiters could have served what was served: each kind is simulated, and never accused."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from livecheck.gateway.limit_kinds import BUCKET, FIXED, SLIDING, Served, Span, sound_kinds

LIMIT, WINDOW_S = 20, 10.0
Allows = Callable[[float], bool]


def sliding(limit: int = LIMIT, window_s: float = WINDOW_S) -> Allows:
    times: list[float] = []

    def allows(at_s: float) -> bool:
        if sum(1 for each in times if at_s - each < window_s) >= limit:
            return False
        times.append(at_s)
        return True

    return allows


def fixed(edge_s: float) -> Allows:
    counts: dict[float, int] = {}

    def allows(at_s: float) -> bool:
        number = (at_s - edge_s) // WINDOW_S
        counts[number] = counts.get(number, 0) + 1
        return counts[number] <= LIMIT

    return allows


def bucket(size: float = LIMIT) -> Allows:
    left, seen_s = size, 0.0

    def allows(at_s: float) -> bool:
        nonlocal left, seen_s
        left, seen_s = min(size, left + (at_s - seen_s) * LIMIT / WINDOW_S), at_s
        is_allowed = left >= 1
        left -= is_allowed
        return is_allowed

    return allows


def served(allows: Allows, times_s: list[float], slow_s: float = 0.0) -> list[Span]:
    """What this limiter serves of requests that are decided on at these times."""
    return [
        Span(at_s - random.uniform(0, slow_s), at_s + random.uniform(0, slow_s))
        for at_s in sorted(times_s)
        if allows(at_s)
    ]


def greedy(length_s: float = 45.0) -> list[float]:
    """Many requests at once, again and again, and some in between."""
    bursts = [at_s + n * 0.001 for at_s in (0.0, 4.8, 11.0, 16.2, 31.0) for n in range(50)]
    return bursts + [random.uniform(0, length_s) for _ in range(200)]


@pytest.mark.parametrize("slow_s", [0.0, 0.3])
def test_no_sound_limiter_is_accused(slow_s: float) -> None:
    for _ in range(20):
        edge_s = random.uniform(0, WINDOW_S)
        assert SLIDING in sound_kinds(served(sliding(), greedy(), slow_s), LIMIT, WINDOW_S)
        assert FIXED in sound_kinds(served(fixed(edge_s), greedy(), slow_s), LIMIT, WINDOW_S)
        assert BUCKET in sound_kinds(served(bucket(), greedy(), slow_s), LIMIT, WINDOW_S)
        assert BUCKET in sound_kinds(served(bucket(LIMIT + 1), greedy(), slow_s), LIMIT, WINDOW_S)


def test_two_processes_that_count_apart_are_no_sound_limiter() -> None:
    first, second = sliding(), sliding()
    both = [first, second] * 1000
    found = served(lambda at_s: both.pop()(at_s), greedy())
    assert sound_kinds(found, LIMIT, WINDOW_S) == []


def test_one_more_than_the_limit_twice_is_at_most_a_bucket() -> None:
    times = [n * 0.001 for n in range(50)] + [11.0 + n * 0.001 for n in range(50)]
    found = served(sliding(LIMIT + 1), times)
    assert sound_kinds(found, LIMIT, WINDOW_S) == [BUCKET]
    assert sound_kinds(found, LIMIT, WINDOW_S, may_refill=False) == []


def test_twice_the_limit_once_may_be_the_end_of_a_window_and_again_it_may_not() -> None:
    once = served(sliding(2 * LIMIT), [n * 0.001 for n in range(50)])
    assert sound_kinds(once, LIMIT, WINDOW_S) == [FIXED]
    again = [Span(each.sent_s + 13.3, each.ended_s + 13.3) for each in once]
    assert sound_kinds([*once, *again], LIMIT, WINDOW_S) == []


def test_a_window_that_is_half_as_long_is_no_sound_limiter() -> None:
    assert sound_kinds(served(sliding(window_s=5.0), greedy()), LIMIT, WINDOW_S) == []


def test_requests_that_took_a_window_prove_nothing() -> None:
    slow = [Span(0.0, 11.0)] * 100
    assert SLIDING in sound_kinds(slow, LIMIT, WINDOW_S)


def test_nothing_served_fits_everything() -> None:
    assert sound_kinds([], LIMIT, WINDOW_S) == [SLIDING, FIXED, BUCKET]


def test_what_overlaps_an_end_is_not_counted() -> None:
    found = Served([Span(0, 1), Span(2, 3), Span(4, 6)])
    assert (found.within(0, 3), found.within(0, 5), found.within(0.5, 6)) == (2, 2, 2)
