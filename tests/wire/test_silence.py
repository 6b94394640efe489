"""The longest silence of an answer, its phase, and the verdict about an edge."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.core.checks import Check, Status
from livecheck.wire import silence
from livecheck.wire.request import Reply, Request
from livecheck.wire.sse import Stream, read_stream

MS = 1_000_000


def reply(*stamps_ms: int, end_ms: int | None = None) -> Reply:
    """Sent at 0, with a byte at each of these times."""
    found = Reply(0, Request("POST", "/"), t0_ns=0)
    for stamp_ms in stamps_ms:
        found.add(b"x", stamp_ms * MS, 0)
    found.end_ns = (stamps_ms[-1] if end_ms is None else end_ms) * MS
    return found


def stream(*output_ms: int, **more: Any) -> Stream:
    return Stream(output_ns=[each * MS for each in output_ms], **more)


STOP = {"finish_reason": "stop"}
PHASES: list[tuple[Reply, Stream, float, str]] = [
    (reply(900, 910, 920), stream(900, 910, 920, **STOP), 900, silence.UNCLEAR),
    (reply(900, 910), stream(900, 910, timings={"prompt_ms": 700}), 900, silence.PREFILL),
    (reply(900, 910), stream(900, 910, timings={"prompt_ms": 20}), 900, silence.QUEUE),
    (reply(10, 400, 410), stream(400, 410, timings={"prompt_ms": 390}), 390, silence.PREFILL),
    (reply(10, 20, 320), stream(10, 20, 320, **STOP), 300, silence.BETWEEN),
    (reply(10, 20, 320), stream(10, 20, **STOP), 300, silence.AFTER),
    (reply(10, 20, end_ms=900), stream(10, 20), 880, silence.BETWEEN),  # it never went on
    (reply(end_ms=700), stream(), 700, silence.UNCLEAR),
    (reply(250, 500, 750, 800), stream(800), 250, silence.UNCLEAR),  # comments came
]


@pytest.mark.parametrize(("came", "said", "expected_ms", "phase"), PHASES)
def test_the_longest_silence_has_a_phase(
    came: Reply, said: Stream, expected_ms: float, phase: str
) -> None:
    found = silence.longest(came, said)
    assert found and (found.ms, found.phase) == (expected_ms, phase)


def test_a_request_that_was_not_sent_was_not_silent() -> None:
    assert silence.longest(Reply(0, Request("GET", "/")), Stream()) is None


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_comments_are_counted(end: str) -> None:
    body = f": one{end}{end}data: [DONE]{end}{end}:{end}:two: three{end}{end}data: a: b{end}{end}"
    assert read_stream("text/event-stream", body.encode()).comments == 3


def record(silence_ms: float | None, phase: str | None = silence.QUEUE, **more: Any) -> Any:
    base = {"excluded": False, "error": None, "comments": 0, "ttft_ms": silence_ms, "sent_ms": 0.0}
    return {**base, "silence_ms": silence_ms, "silence_phase": phase, **more}


def test_without_the_servers_word_the_fastest_first_token_tells_the_prefill() -> None:
    found = [record(100.0, silence.UNCLEAR), record(900.0, silence.UNCLEAR), record(300.0)]
    silence.tell_phases(found)
    assert [each["silence_phase"] for each in found] == ["prefill", "queue", "queue"]


def check(*records: Any, **more: Any) -> Check:
    seen = silence.lost_words(records, 60)
    return silence.check_edge(records, 60, seen, **more)


def test_a_silence_that_the_edge_allows_passes() -> None:
    found = check(record(59_000.0, comments=2), record(10.0))
    assert found.status is Status.PASS and "59.00 s, queue; 2 comments" in found.detail


def test_a_longer_silence_is_a_warning_with_its_phase() -> None:
    found = check(
        record(74_200.0), record(61_000.0, silence.BETWEEN), record(99_000.0, error="timeout")
    )
    assert found.status is Status.WARN and found.evidence["cut"] == 3
    assert "3 of 3 requests: queue x2, between tokens x1, up to 99.00 s" in found.detail
    assert "in place of 1 and the beginning alone of 1 of 2 answers" in found.detail


@pytest.mark.parametrize("more", [{"client_bound": True}, {}])
def test_no_verdict_where_this_program_was_starved(more: Any) -> None:
    found = check(record(61_000.0, starved_silence_ms=0.0 if more else 1500.0), **more)
    assert found.status is Status.SKIP and not found.essential


def test_what_says_nothing_about_the_deployment_does_not_count() -> None:
    found = check(record(99_000.0, excluded=True), record(None, None), record(1.0))
    assert found.status is Status.PASS and found.evidence["requests"] == 1
    assert check(record(None, None)).status is Status.SKIP


def test_a_long_silence_is_compared_with_what_edges_usually_allow() -> None:
    told = silence.words(silence.summary_of([record(101_000.0)]))
    assert "ALB cut after 60 s" in told and "RunPod" in told and "Cloudflare" not in told
