"""A load in parts: together they send what the whole would, and each prompt as often."""

from __future__ import annotations

import itertools
import time

import pytest

from livecheck.load.arrivals import Load
from livecheck.load.parts import part_of, share, warmup_of
from livecheck.load.process_count import most_parts

SIZES = [(1, 1, 1), (5, 5, 2), (5, 33, 2), (7, 20, 3), (1000, 1000, 2), (8, 1001, 8), (3, 4, 3)]


@pytest.mark.parametrize(("slots", "requests", "of"), SIZES)
def test_slots_and_requests_are_dealt_out_without_a_rest(
    slots: int, requests: int, of: int
) -> None:
    whole = Load(slots, requests)
    parts = [part_of(whole, place, of) for place in range(of)]
    assert sum(part.concurrency for part in parts) == slots
    assert sum(part.planned or 0 for part in parts) == requests
    assert min(part.planned or 0 for part in parts) >= min(part.concurrency for part in parts) >= 1
    numbers = [list(part.numbers()) for part in parts]
    assert sorted(itertools.chain(*numbers)) == list(range(requests))
    assert [len(each) for each in numbers] == [part.planned for part in parts]


def test_with_one_request_per_slot_each_process_has_as_many_as_slots() -> None:
    for place in range(3):
        part = part_of(Load(10, 10), place, 3)
        assert part.planned == part.concurrency


def test_arrivals_are_dealt_in_turn_and_stay_when_they_are_due() -> None:
    whole = Load(10, 101, rate_per_s=50.0)
    parts = [part_of(whole, place, 3) for place in range(3)]
    assert sorted(itertools.chain(*(part.due_s or [] for part in parts))) == whole.due_s
    assert sorted(itertools.chain(*(part.numbers() for part in parts))) == list(range(101))
    assert sum(part.concurrency for part in parts) == 10
    assert parts[1].due_s == (whole.due_s or [])[1::3] and parts[1].is_open


def test_a_duration_counts_from_the_start_and_each_slot_has_a_request_before() -> None:
    started: list[float] = []
    part = part_of(Load(4, None, duration_s=0.05), 1, 2, lambda: started[0] if started else None)
    numbers = part.numbers()
    assert [next(numbers), next(numbers)] == [1, 3]
    started.append(time.perf_counter())
    assert next(numbers) == 5
    time.sleep(0.06)
    assert list(numbers) == []


def test_other_settings_of_a_load_are_those_of_its_parts() -> None:
    whole = Load(4, 8, depth=1000)
    part = part_of(whole, 0, 2)
    assert (part.depth, part.title) == (1000, whole.title)


def test_a_load_has_no_more_parts_than_slots_or_requests() -> None:
    assert most_parts(Load(4, 100)) == 4
    assert most_parts(Load(1000, 3, rate_per_s=1.0)) == 3
    assert most_parts(Load(1, None, duration_s=1.0)) == 1


def test_the_warm_up_is_one_per_slot_at_least() -> None:
    assert [warmup_of(1, Load(5, 5), place, 2) for place in (0, 1)] == [3, 2]
    assert [warmup_of(9, Load(5, 5), place, 2) for place in (0, 1)] == [5, 4]
    assert [warmup_of(1, Load(9, 9, rate_per_s=1.0), place, 2) for place in (0, 1)] == [1, 1]
    assert warmup_of(0, Load(5, 5), 0, 2) == 0
    assert share(7, 1, 3) == 2
