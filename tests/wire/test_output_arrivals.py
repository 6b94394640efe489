"""output_arrivals.py: what came together, blocks, and what only looks like them."""

from __future__ import annotations

import itertools
import random

import pytest

from livecheck.wire.output_arrivals import Arrivals, read_arrivals
from tests.helpers import blocks


def arriving(gaps_ms: list[float], after_ms: float = 100.0) -> list[float]:
    return list(itertools.accumulate([after_ms, *gaps_ms]))


def in_steps(size: int, rate: float, tokens: int = 128) -> Arrivals:
    """`size` tokens at once, each an event."""
    return read_arrivals([100 + 1e3 * (n // size * size) / rate for n in range(tokens)], tokens)


def test_what_came_together_is_one_arrival() -> None:
    found = read_arrivals([10.0, 10.0, 10.1, 50.0, 50.2, 90.0])
    assert (list(found.at_ms), list(found.events), found.pieces) == ([10, 50, 90], [3, 2, 1], 6)
    assert found.per_s == 25
    assert read_arrivals([]).count == 0
    assert read_arrivals([5.0]).per_s is None


@pytest.mark.parametrize("apart_ms", [0.0, 0.05, 0.4])
def test_the_events_of_a_block_are_together_however_they_are_written(apart_ms: float) -> None:
    times = blocks.groups(blocks.written(97, 100), 20)
    found = read_arrivals(blocks.spread(times, apart_ms))
    assert list(found.events) == [20] * 5


def test_a_block_in_two_flights_is_one_arrival() -> None:
    times = blocks.in_flights(blocks.groups(blocks.written(20, 200), 40), 30, 100)
    assert list(read_arrivals(times).events) == [40] * 5


@pytest.mark.parametrize(
    "gaps",
    [
        [10.0] * 99,
        [3.0] * 99,
        [1.0] * 99,  # a fast engine
        [10.0] * 50 + [5000.0] + [10.0] * 50,  # it stood still in between
        [1.0] * 200 + [90.0] + [1.0] * 200,
        [random.Random(1).uniform(2.5, 7.5) for _ in range(99)],
    ],
)
def test_an_engine_that_writes_piece_by_piece_is_seen_so(gaps: list[float]) -> None:
    found = read_arrivals(arriving(gaps), len(gaps) + 1)
    assert found.count == len(gaps) + 1
    assert not (found.are_grouped or found.are_blocks or found.are_jerky)


@pytest.mark.parametrize(("size", "rate"), [(2, 30), (4, 40), (4, 97), (8, 50), (8, 300), (5, 25)])
def test_steps_of_an_engine_are_no_blocks(size: int, rate: float) -> None:
    found = in_steps(size, rate)
    assert found.are_grouped and not found.are_blocks


@pytest.mark.parametrize(("size", "rate"), [(20, 10), (20, 97), (80, 97), (10, 10), (6, 10)])
def test_text_that_jumps_is_seen(size: int, rate: float) -> None:
    found = in_steps(size, rate)
    assert found.are_jerky and found.are_blocks


def test_blocks_that_follow_each_other_quickly_do_not_jump() -> None:
    found = in_steps(20, 300)
    assert found.are_blocks and not found.are_jerky
    assert not in_steps(20, 2000).are_blocks  # a hundred a second: who would see it?


def test_a_fast_engine_that_pauses_once_is_not_accused() -> None:
    found = read_arrivals([50 + n * 0.8 + (600 if n > 30 else 0) for n in range(64)])
    assert not (found.are_jerky or found.are_blocks)


def test_all_at_once_is_the_largest_block() -> None:
    held_back = [800 + 0.4 * n for n in range(64)]
    for times in ([900.0] * 64, held_back):
        found = read_arrivals(times)
        assert found.count == 1 and found.are_blocks


def test_large_events_are_blocks_as_well() -> None:
    found = read_arrivals([400.0 * n for n in range(1, 9)], tokens=320)
    assert found.are_blocks
    assert not read_arrivals([400.0 * n for n in range(1, 9)], tokens=8).are_blocks
