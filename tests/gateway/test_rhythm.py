"""A burst and blocks are told from a rhythm, and from a client that could not look."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.answers import answer, event

from livecheck.gateway.rhythm import (
    MOST_STREAMS,
    certain_holds,
    is_burst,
    is_certain,
    is_decided,
    is_held_back,
    rhythm,
)
from livecheck.wire import chat
from tests.helpers import blocks

# pieces, over ms, of ms, median gap in ms: is it a burst?
BEATS = [
    (64, 600.0, 650.0, 9.4, False),
    (64, 63.0, 70.0, 0.0, False),  # a busy machine joins events, but not all
    (16, 80.0, 2000.0, 5.0, False),  # a long prefill, then a fast model
    (64, 1.0, 650.0, 0.01, True),
    (64, 0.0, 30000.0, 0.0, True),
    (3, 0.0, 650.0, 0.0, False),  # too few to tell
]


def beat(pieces: int, over: float, of: float, gap: float, starved: float = 0.0) -> dict[str, Any]:
    return {
        "pieces": pieces,
        "over_ms": over,
        "of_ms": of,
        "median_gap_ms": gap,
        "arrivals": pieces if gap else 1,
        "is_jerky": False,
        "in_blocks": False,
        "starved_ms": starved,
        "unseen_ms": starved,
    }


FLOWING, BURST = beat(64, 600.0, 650.0, 9.4), beat(64, 1.0, 650.0, 0.01)
UNCERTAIN = BURST | {"unseen_ms": 127.0}


@pytest.mark.parametrize(("pieces", "over", "of", "gap", "burst"), BEATS)
def test_a_burst_is_told_from_a_rhythm(
    pieces: int, over: float, of: float, gap: float, burst: bool
) -> None:
    assert is_burst(beat(pieces, over, of, gap)) is burst


def test_a_burst_is_certain_when_the_client_can_have_missed_little() -> None:
    assert is_certain(BURST)
    assert is_certain(BURST | {"unseen_ms": 60.0})
    assert not is_certain(UNCERTAIN)


def test_it_is_decided_by_a_stream_that_flows_or_by_three_certain_bursts() -> None:
    assert not is_decided([])
    assert is_decided([FLOWING])
    assert is_decided([BURST, FLOWING])
    assert not is_decided([BURST, BURST])
    assert is_decided([BURST, BURST, BURST])
    assert not is_decided([BURST, UNCERTAIN, BURST])
    assert is_decided([BURST, UNCERTAIN, BURST, BURST])
    assert is_decided([UNCERTAIN] * MOST_STREAMS)


# --- blocks


def beat_of(times_ms: list[float], starved_ms: float = 0.0, text: str = "word") -> dict[str, Any]:
    pieces = [(at, event({"content": text})) for at in times_ms]
    pieces.append((times_ms[-1], event({}, "stop") + b"data: [DONE]\n\n"))
    kind = {"content-type": "text/event-stream"}
    request = chat.completion("m", "hi", len(times_ms))
    found = answer(200, kind, request=request, pieces=pieces, spent_ms=times_ms[-1])
    return rhythm(found, starved_ms)


@pytest.mark.parametrize(
    ("rate", "size", "jumps"),
    [(10, 4096, True), (97, 4096, True), (97, 16384, True), (97, 400, False), (300, 4096, False)],
)
def test_a_reader_sees_blocks_that_are_large_and_rare(rate: float, size: int, jumps: bool) -> None:
    beat = beat_of(blocks.exact_blocks(blocks.written(rate, 256), size))
    assert is_held_back(beat) is jumps
    assert beat["in_blocks"] is (size > 400)


def test_blocks_are_certain_when_the_client_was_starved_for_less_than_one() -> None:
    times = blocks.exact_blocks(blocks.written(97, 256), 4096)  # each of them takes 0.2 s
    assert certain_holds([beat_of(times), beat_of(times, starved_ms=100)]) == 2
    assert certain_holds([beat_of(times, starved_ms=300)]) == 0
    assert not is_decided([beat_of(times)] * 2)
    assert is_decided([beat_of(times)] * 3)


@pytest.mark.parametrize(("count", "rate"), [(2, 20), (4, 97), (8, 97)])
def test_steps_of_an_engine_flow(count: int, rate: float) -> None:
    assert not is_held_back(beat_of(blocks.groups(blocks.written(rate, 128), count)))
