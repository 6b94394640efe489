"""When runners had requests, and how long one had none."""

from __future__ import annotations

import pytest
from helpers.fleet_answers import failed, served

from livecheck.fleet import busy_times
from livecheck.fleet.busy_times import Span


def test_requests_that_follow_each_other_are_not_at_once() -> None:
    assert busy_times.most_at_once([served(0, 10), served(10, 20)]) == 1
    assert busy_times.most_at_once([served(0, 10.5), served(10, 20)]) == 2
    late = [served(9.0 * n, 9.0 * n + 10, round_trip=4.0) for n in range(3)]
    assert busy_times.most_at_once(late) == 1  # on the way, not there


def test_a_request_waits_until_its_first_output_or_its_end() -> None:
    start, end = busy_times.at_deployment(served(0, 100, round_trip=4.0))
    assert end - start == 96
    start, end = busy_times.waiting(served(0, 100, first=30, round_trip=4.0))
    assert end - start == 30
    start, end = busy_times.waiting(failed(0, 100))
    assert end - start == 100


@pytest.mark.parametrize(
    ("some", "others", "both"),
    [
        ([], [(0, 1)], []),
        ([(0, 2)], [(1, 3)], [(1, 2)]),
        ([(0, 2), (2, 4)], [(1, 3)], [(1, 2), (2, 3)]),
        ([(0, 1)], [(1, 2)], []),
        ([(0, 9)], [(1, 2), (3, 4)], [(1, 2), (3, 4)]),
    ],
)
def test_the_times_in_both_lists_are_found(
    some: list[Span], others: list[Span], both: list[Span]
) -> None:
    assert busy_times.overlaps(some, others) == busy_times.overlaps(others, some) == both


def test_the_times_without_any_span_are_the_rest_of_the_whole() -> None:
    assert busy_times.times_without([(1, 3), (2, 4), (6, 10)], (0, 10)) == [(0, 1), (4, 6)]
    assert busy_times.times_without([], (0, 10)) == [(0, 10)]


def test_a_gap_is_as_long_as_the_other_runner_had_two_requests() -> None:
    busy = [served(0, 100), served(0, 300), served(0, 500)]
    (gap,) = busy_times.longest_gaps({"a": busy, "b": [served(0, 120)]}, [])
    assert (gap.runner, gap.busy, gap.length_ms, gap.request_ms) == ("b", "a", 180, 300)
    assert gap.in_requests == 0.6
    # what is not attributed may have been the idle runner's
    assert not busy_times.longest_gaps({"a": busy, "b": [served(0, 120)]}, [served(0, 400)])
    # they all have their first output after 10 ms: nobody waits for a runner
    assert not busy_times.longest_gaps({"a": busy, "b": [served(0, 120)]}, [], queued=True)


def test_the_time_in_which_this_program_could_not_run_is_no_gap() -> None:
    busy = [served(0, 100), served(0, 300), served(0, 500)]
    fleet = {"a": busy, "b": [served(0, 120)]}
    (start, _) = busy_times.at_deployment(busy[0])
    blind = [(start + 150, start + 200), (start + 290, start + 310), (start + 900, start + 950)]
    (gap,) = busy_times.longest_gaps(fleet, [], blind=blind)
    assert gap.length_ms == 120
    assert not busy_times.longest_gaps(fleet, [], blind=[(start, start + 500)])
