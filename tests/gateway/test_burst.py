"""What became of requests that were sent all at once, worked out from answers made by hand."""

from __future__ import annotations

import pytest
from helpers.answers import answer, streamed

from livecheck.gateway.burst import Burst, Limits, most_at_once
from livecheck.wire.answer import Answer


def served(first_s: float, last_s: float) -> Answer:
    """A streamed answer with its first token and its last event at these times after sending."""
    return streamed(1e3 * first_s, gap_ms=1e3 * (last_s - first_s) / 2)


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(0, 1)], 1),
        ([(0, 1), (1, 2)], 1),
        ([(0, 2), (1, 3), (2.5, 4)], 2),
        ([(0, 2), (3, 1)], 1),
    ],
)
def test_spans_that_overlap_are_counted(spans: list[tuple[float, float]], most: int) -> None:
    assert most_at_once(spans) == most


def test_a_queued_request_waits_until_as_many_have_ended_as_are_in_front() -> None:
    answers = [served(0, 3.0), served(0, 1.0), served(0, 2.0)]
    assert Burst(Limits(1, 2), 1, answers).waits_s == pytest.approx([1.0, 2.0])
    assert Burst(Limits(3, 0), 1, answers).waits_s == []


def test_another_status_counts_as_refused_only_for_want_of_a_503() -> None:
    late, early = (answer(500, spent_ms=ms) for ms in (2000, 1000))
    busy = answer(503, spent_ms=1500)
    burst = Burst(Limits(1, 2), 1, [late, early])
    assert (burst.served, burst.refused, burst.failed) == ([], [early], [late])
    burst = Burst(Limits(1, 2), 1, [late, early, busy])
    assert (burst.served, burst.refused, burst.failed) == ([], [busy], [late, early])


def test_without_a_bound_on_the_queue_no_refusal_is_expected() -> None:
    broken, busy = answer(500), answer(503)
    burst = Burst(Limits(1, 0), 1, [broken, busy])
    assert (burst.refused, burst.failed) == ([busy], [broken])


@pytest.mark.parametrize(
    ("answers", "is_conclusive"),
    [
        ([served(0, 0.5)], True),
        ([served(0, 0.1)], False),  # they did not overlap for long enough
        ([served(0, 0.1), answer(500), answer(500)], True),  # a failure says enough
        ([answer(503)], True),
        ([served(0, 0.5), answer(429, body=b'{"error": "rate_limit_exceeded"}')], False),
    ],
)
def test_a_burst_says_something_when_its_requests_overlapped_or_failed(
    answers: list[Answer], is_conclusive: bool
) -> None:
    assert Burst(Limits(1, 2), 1, answers).is_conclusive is is_conclusive


PAGE = b"<html><body><center><h1>429 Too Many Requests</h1></center></body></html>"
FULL = b'{"error": {"message": "Server busy"}}'
NAMED = b'{"error": {"type": "throttling_error", "code": "429"}}'


@pytest.mark.parametrize(
    ("served_count", "body", "later", "is_limit"),
    [
        (3, FULL, served(2, 3), False),  # a queue that refuses with the wrong status
        (1, FULL, served(2, 3), False),
        (1, b"", served(2, 3), False),
        (1, FULL, answer(429), True),  # nobody is there, and it is refused all the same
        (3, NAMED, served(2, 3), True),  # the limit has recovered
        (3, PAGE, served(2, 3), False),  # just what does not fit was refused
        (1, PAGE, served(2, 3), True),
    ],
)
def test_a_429_in_a_burst_is_a_rate_limit_when_nothing_else_explains_it(
    served_count: int, body: bytes, later: Answer, is_limit: bool
) -> None:
    answers = [served(0, 0.5)] * served_count + [answer(429, body=body)] * (4 - served_count)
    burst = Burst(Limits(1, 2), 1, answers, later=later)
    assert bool(burst.rate_limited) is is_limit
