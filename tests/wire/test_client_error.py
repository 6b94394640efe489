"""What this program reported, minus what the truth server noted."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.wire import client_error

MS = 1_000_000


def note(ident: str, *sent_ms: float, blocked: int = 0) -> dict[str, Any]:
    """A request that was received at 5 s."""
    sent_ns = [5_000 * MS + round(at * MS) for at in sent_ms]
    return {"id": ident, "received_ns": 5_000 * MS, "sent_ns": sent_ns, "blocked": blocked}


def record(ident: str | None, *event_ms: float, error: str | None = None) -> dict[str, Any]:
    return {"answer_id": ident, "event_ms": list(event_ms), "error": error}


def test_records_and_notes_are_matched_by_the_id_of_the_answer() -> None:
    notes = [note("b", 10, 20), note("warm-up", 1, 2), note("a", 100, 120)]
    found = client_error.compare([record("a", 100.5, 120.25), record("b", 10, 21)], notes)
    assert list(found.ttft_ms) == pytest.approx([0.5, 0.0])
    assert list(found.event_ms) == pytest.approx([0.5, 0.25, 0.0, 1.0])
    assert list(found.gap_ms) == pytest.approx([-0.25, 1.0])
    assert (found.unmatched, found.inexact) == (0, 0)


def test_what_cannot_be_compared_is_counted_and_in_no_error() -> None:
    notes = [note("a", 1, 2), note("b", 1, 2), note("c", 1, 2), note("slow", 1, 2, blocked=1)]
    records = [
        record("a", 1, 2, error="truncated"),
        record("b", 1),  # an event is missing
        record(None, 1, 2),
        record("nobody", 1, 2),
        record("slow", 1, 2),
    ]
    found = client_error.compare(records, notes)
    assert (len(found.ttft_ms), found.unmatched, found.inexact) == (0, 4, 1)


def test_the_median_has_a_sign_and_the_tail_is_about_the_size() -> None:
    summary = client_error.summary([-3.0, -0.1, -0.1, -0.1, -0.1])
    assert summary["p50"] == -0.1 and summary["n"] == 5
    assert summary["p99"] == pytest.approx(3.0, abs=0.2)
    assert client_error.summary([]) == {"p50": None, "p99": None, "p99_9": None, "n": 0}


def figures(**more: Any) -> dict[str, Any]:
    found = {
        "concurrency": 8,
        "ttft_error_ms": client_error.summary([0.008, 0.02]),
        "event_error_ms": client_error.summary([1.5]),
        "problem": None,
    }
    return {"self_check": found | more}


def test_the_words() -> None:
    assert client_error.words(figures(tls=True, client_bound=True)) == (
        "TTFT 14 µs p50, 20 µs p99; events 1.50 ms p50, 1.50 ms p99 "
        "(at 8 in flight, TLS, client-bound)"
    )
    assert client_error.words(figures(kernel_times=False)) == (
        "TTFT 14 µs p50, 20 µs p99; events 1.50 ms p50, 1.50 ms p99 "
        "(at 8 in flight, the server's own delay included)"
    )
    assert "(at 8 in flight, the level had at most 3)" in str(
        client_error.words(figures(level_in_flight=3))
    )
    assert client_error.words({}) is None
    problem = "not known at 8 in flight: the server did not start"
    assert client_error.words(figures(problem="the server did not start")) == problem


def test_a_limit_for_a_figure_of_time_only() -> None:
    assert client_error.limit_words(figures(), "ttft_ms") == "client error 20 µs (p99)"
    assert client_error.limit_words(figures(), "itl_ms") == "client error 1.50 ms (p99)"
    assert client_error.limit_words(figures(), "error_rate") == ""
    assert client_error.limit_words({}, "ttft_ms") == ""


@pytest.mark.parametrize(
    "client", [None, [], "x", {"self_check": 3}, {"self_check": {"problem": 1}}]
)
def test_a_damaged_file_has_words_or_none(client: object) -> None:
    client_error.words(client)
    client_error.limit_words(client, "ttft_ms")
