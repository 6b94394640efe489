"""decode_figures.py: how fast the tokens of a stream came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from livecheck.wire import sse
from livecheck.wire.decode_figures import (
    FEW_BLOCKS,
    ONE_ARRIVAL,
    WRONG_COUNT,
    decode_figures,
    server_figures,
)
from tests.helpers import blocks

STEP_MS = 40.0


def figures(
    times: Sequence[float], tokens: int, sizes: Sequence[int] | None = None
) -> dict[str, Any]:
    """Of a stream whose events came then, and for which the server counts so many tokens."""
    stream = sse.Stream(usage={"completion_tokens": tokens}, text="word" * len(times))
    stream.output_ns = [int(each * 1e6) for each in times]
    stream.output_sizes = list(sizes or [8] * len(times))
    return decode_figures(stream, times)


@pytest.mark.parametrize(
    ("times", "tokens", "first", "rate", "tpot"),
    [
        # one token in each event, 10 ms apart
        ([10.0 * n for n in range(100)], 100, 1, 100.0, 10.0),
        # four events in each write, at the same moment or within a tenth of a millisecond
        ([STEP_MS * (n // 4) for n in range(100)], 100, 4, 100.0, 10.0),
        ([STEP_MS * (n // 4) + 0.03 * (n % 4) for n in range(100)], 100, 4, 100.0, 10.0),
        # four tokens in each event
        ([STEP_MS * n for n in range(25)], 100, 4, 100.0, 10.0),
        # an end token that is counted and never sent
        ([10.0 * n for n in range(64)], 65, 1, 101.587, 9.8438),
        # more events than tokens
        ([10.0 * n for n in range(8)], 4, 1, 42.857, 23.3333),
        # all at once: there is no rate
        ([5.0] * 20, 20, 20, None, None),
        ([5.0], 1, 1, None, None),
    ],
)
def test_what_came_with_the_first_token_is_not_in_the_rate(
    times: list[float], tokens: int, first: int, rate: float | None, tpot: float | None
) -> None:
    found = figures(times, tokens)
    assert found["first_tokens"] == first
    assert found["tokens_per_s"] == rate
    assert found["tpot_ms"] == tpot
    assert bool(found["no_rate"]) is (rate is None)


RATES = (10, 50, 97, 300)


@pytest.mark.parametrize("tokens", [32, 64, 128, 256])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("way", blocks.WAYS)
def test_a_rate_of_blocks_is_the_true_one_or_none(way: str, rate: float, tokens: int) -> None:
    for late_end in (False, True):
        stream = blocks.written(rate, tokens, late_end=late_end)
        for apart_ms in (0.0, 0.05, 0.2):
            times = blocks.spread(blocks.WAYS[way](stream), apart_ms)
            found = figures(times, tokens + late_end)
            assert found["tokens_per_s"] == pytest.approx(rate, rel=0.1) or found["no_rate"]


@pytest.mark.parametrize("tokens", [64, 100, 128, 256])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("round_trip_ms", [20, 100])
def test_a_block_that_comes_in_two_flights_gives_no_false_rate(
    rate: float, round_trip_ms: float, tokens: int
) -> None:
    times = blocks.exact_blocks(blocks.written(rate, tokens), 16 << 10)
    found = figures(blocks.in_flights(times, 60, round_trip_ms), tokens)
    assert found["tokens_per_s"] == pytest.approx(rate, rel=0.15) or found["no_rate"]


@pytest.mark.parametrize("rate", RATES)
def test_usual_answers_in_blocks_of_4_kb_have_a_rate(rate: float) -> None:
    times = blocks.exact_blocks(blocks.written(rate, 128), 4 << 10)
    found = figures(times, 128)
    assert found["tokens_per_s"] == pytest.approx(rate, rel=0.05)
    assert (found["output_events"], found["output_arrivals"], found["no_rate"]) == (128, 7, None)


def test_large_events_are_weighed_by_their_text() -> None:
    """40, 40, 40, 40 tokens and the 8 that were left, 400 ms apart: 100 tokens a second."""
    found = figures([400.0 * n for n in range(1, 6)], 168, sizes=[160, 160, 160, 160, 32])
    assert found["tokens_per_s"] == pytest.approx(100)
    assert found["first_tokens"] == 40


def test_why_there_is_no_rate() -> None:
    assert figures([5.0] * 20, 20)["no_rate"] == ONE_ARRIVAL
    assert figures([5.0] * 60 + [900.0] * 4, 64)["no_rate"] == FEW_BLOCKS
    hidden = figures([200.0 * n for n in range(1, 41)], 1500)
    assert hidden["no_rate"] == WRONG_COUNT
    assert hidden["tokens_per_s"] is hidden["tpot_ms"] is hidden["shown_tokens"] is None


@pytest.mark.parametrize(("tokens", "first"), [(20, 1), (24, 1), (30, 12)])
def test_tokens_are_shared_by_events_unless_an_event_holds_several(tokens: int, first: int) -> None:
    """The first of 20 events has 96 of the 248 bytes."""
    found = figures([10.0 * n for n in range(20)], tokens, sizes=[96, *[8] * 19])
    assert found["first_tokens"] == first


def test_the_cached_tokens_of_usage_count_before_those_of_timings() -> None:
    usage = {"completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 0}}
    stream = sse.Stream(usage=usage, timings={"cache_n": 7}, text="word" * 4)
    stream.output_ns, stream.output_sizes = [0, 10**7, 2 * 10**7, 3 * 10**7], [4] * 4
    assert decode_figures(stream, [0.0, 10.0, 20.0, 30.0])["cached_tokens"] == 0
    stream.usage = {"completion_tokens": 4}
    assert decode_figures(stream, [0.0, 10.0, 20.0, 30.0])["cached_tokens"] == 7


@pytest.mark.parametrize(
    ("timings", "rate"),
    [
        ({"predicted_n": 11, "predicted_ms": 100.0}, 100.0),
        ({"predicted_n": 1, "predicted_ms": 100.0}, None),
        ({"predicted_n": 11, "predicted_ms": 0}, None),
        ({"predicted_n": 11}, None),
        ({"predicted_ms": 100.0}, None),
        ({"predicted_n": "many", "predicted_ms": -1}, None),
    ],
)
def test_the_servers_own_rate_counts_the_tokens_after_the_first(
    timings: dict[str, Any], rate: float | None
) -> None:
    assert server_figures(timings)["server_tokens_per_s"] == rate
