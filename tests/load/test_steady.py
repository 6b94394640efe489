"""The steady window of a level: where it is, and what counts in it."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.load.steady import steady_metrics, window_of, words_of
from livecheck.wire.metrics import level_metrics

TTFT_MS, GAP_MS, TOKENS = 40.0, 10.0, 7
LONG_MS = TTFT_MS + (TOKENS - 1) * GAP_MS  # of a request: 100 ms


def record(sent_ms: float, lasts_ms: float = LONG_MS, **changes: Any) -> dict[str, Any]:
    """A request that lasts so long: all its times are in proportion."""
    factor = lasts_ms / LONG_MS
    times = [factor * (TTFT_MS + n * GAP_MS) for n in range(TOKENS)]
    return {
        "error": None,
        "excluded": False,
        "sent_ms": sent_ms,
        "ended_ms": sent_ms + lasts_ms,
        "ttft_ms": times[0],
        "e2e_ms": lasts_ms,
        "tpot_ms": factor * GAP_MS,
        "tokens_per_s": 1e3 / (factor * GAP_MS),
        "output_tokens": TOKENS,
        "token_source": "usage",
        "event_ms": times,
        **changes,
    }


def rounds(slots: int, count: int) -> list[dict[str, Any]]:
    """Requests of a closed loop, each slot sending the next one when its last one has ended; a slot
    begins and ends 1 ms after the one before."""
    return [record(n // slots * LONG_MS + n % slots) for n in range(count)]


def steady(records: list[dict[str, Any]], slots: int, is_open: bool = False) -> dict[str, Any]:
    window = window_of(records, slots, is_open)
    return steady_metrics(records, window, level_metrics(records))


def test_one_request_at_a_time_is_steady_from_the_first_to_the_last() -> None:
    found, whole = steady(rounds(1, 5), 1), level_metrics(rounds(1, 5))
    assert (found["start_ms"], found["end_ms"], found["share"]) == (0, 500, 1)
    assert (found["requests"], found["in_flight_mean"]) == (5, 1)
    for key in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms", "requests_per_s", "output_tokens_per_s"):
        assert found[key] == whole[key]


def test_the_tail_is_not_in_the_window() -> None:
    """Three slots, ten requests: the last one runs alone, and is served three times as fast."""
    found = steady([*rounds(3, 9), record(300, LONG_MS / 3)], 3)
    assert found["start_ms"] == 2  # the third request is sent
    assert found["end_ms"] == 301, "the second slot finds no other request"
    assert found["requests"] == 8, "its own requests, and not the last two"
    assert found["ttft_ms"]["max"] == found["ttft_ms"]["min"] == TTFT_MS
    assert found["requests_per_s"] == pytest.approx(30, rel=0.02)
    assert found["output_tokens_per_s"] == pytest.approx(30 * TOKENS, rel=0.02)


def test_a_slow_fill_is_not_in_the_window() -> None:
    """The second slot joins after half a second, as when its connection takes long to open."""
    alone = [record(n * LONG_MS) for n in range(5)]
    both = [record(500 + n % 2 + n // 2 * 2 * LONG_MS, 2 * LONG_MS) for n in range(8)]
    found = steady([*alone, *both], 2)
    assert found["start_ms"] == 501
    assert found["requests"] == 8
    assert found["ttft_ms"]["min"] == 2 * TTFT_MS


def test_ninety_five_per_cent_are_enough() -> None:
    """Of 40 two may be missing: here one slot has stopped after its first request."""
    records = [each for n, each in enumerate(rounds(40, 160)) if n == 39 or n % 40 != 39]
    found = window_of(records, 40, is_open=False)
    assert found.end_ms == 3 * LONG_MS + LONG_MS + 1, "when the 38th is gone"
    records = [each for n, each in enumerate(rounds(40, 160)) if n < 80 or n % 40 < 37]
    assert window_of(records, 40, is_open=False).end_ms == 2 * LONG_MS + 39, "37 are too few"


def test_the_gaps_between_requests_do_not_end_the_window() -> None:
    records = [record(n // 4 * (LONG_MS + 5) + n % 4) for n in range(20)]
    found = steady(records, 4)
    assert found["end_ms"] == 4 * (LONG_MS + 5) + LONG_MS
    assert found["in_flight_mean"] == pytest.approx(4 * 100 / 105, rel=0.02)


@pytest.mark.parametrize(("pause_ms", "has_window"), [(100, True), (500, False)])
def test_a_level_in_which_nothing_ran_for_long_has_no_window(
    pause_ms: float, has_window: bool
) -> None:
    """As when the client was stopped between the first five rounds and the others."""
    found = rounds(4, 20) + [record(each["sent_ms"] + 500 + pause_ms) for each in rounds(4, 20)]
    window = steady(found, 4)
    assert (window["start_ms"] is not None) is has_window
    if not has_window:
        assert window["reason"] == "only 2.66 of 4 in flight on average, 3.2 are needed"


def test_connecting_counts_as_in_flight() -> None:
    """A server that closes each connection, 60 ms away: two users are never sent to at once."""
    begins = [(0, 0), (1, 0), (160, 60), (230, 60), (320, 60), (390, 60)]
    records = [record(sent, connect_ms=connect / 2, tls_ms=connect / 2) for sent, connect in begins]
    assert steady(records, 2)["end_ms"] == 420


def test_a_request_that_fails_takes_its_slot_but_is_in_no_figure() -> None:
    records = rounds(2, 12)
    records[4] |= {"error": "500", "ttft_ms": None, "event_ms": [], "output_tokens": None}
    found = steady(records, 2)
    assert found["requests"] == 11
    assert found["requests_per_s"] == pytest.approx(20 * 11 / 12, rel=0.02)


@pytest.mark.parametrize(
    ("slots", "count", "why"),
    [
        (8, 4, "at most 4 of 8 were in flight, 8 are needed"),
        (4, 5, "only 0 whole requests while 4 of 4 were in flight, 4 are needed"),
        (1, 1, "only 1 whole request while 1 of 1 were in flight, 2 are needed"),
        (2, 0, "no request was sent"),
    ],
)
def test_a_small_level_has_no_window_and_says_why(slots: int, count: int, why: str) -> None:
    found = steady(rounds(slots, count), slots)
    assert found["reason"] == why
    assert words_of(found, 1.0) == f"none: {why}"
    numbers = ("start_ms", "end_ms", "share", "in_flight_mean", "requests", "requests_per_s")
    assert {found[key] for key in (*numbers, "output_tokens_per_s")} == {None}
    assert found["ttft_ms"]["n"] == found["itl_ms"]["n"] == 0


def test_an_open_loop_is_steady_from_the_first_end_to_the_last_arrival() -> None:
    """Requests every 25 ms, each takes 100: four in flight."""
    records = [record(25 * n, due_ms=25 * n) for n in range(41)]
    found = steady(records, 1000, is_open=True)
    assert (found["start_ms"], found["end_ms"]) == (100, 1000)
    assert found["requests"] == 37, "those that are due in it, however late they end"
    assert found["in_flight_mean"] == 4
    assert found["requests_per_s"] == 40
    assert found["output_tokens_per_s"] == pytest.approx(40 * TOKENS, rel=0.01)


def test_an_open_loop_that_ends_before_its_first_answer_has_no_window() -> None:
    records = [record(25 * n, due_ms=25 * n) for n in range(4)]
    found = steady(records, 1000, is_open=True)
    assert found["reason"] == "the last request was due before the first one had ended"


def test_tokens_that_nobody_counted_leave_the_throughput_open() -> None:
    records = [each | {"output_tokens": None} for each in rounds(1, 3)]
    found = steady(records, 1)
    assert found["output_tokens_per_s"] is None
    assert found["requests_per_s"] == 10


def test_the_words_say_where_the_window_is() -> None:
    words = words_of(steady(rounds(2, 9), 2), 0.5)
    assert words == "0.00 to 0.40 s of 0.50 s (80 %), 8 whole requests, 2 in flight on average"
