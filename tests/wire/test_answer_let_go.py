"""An answer that lets go of its bytes says the same as before."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from helpers import answers, hostile

from livecheck.wire import chat
from livecheck.wire.answer import KEPT_BYTES, Answer

STREAM = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
LONG = "word " * KEPT_BYTES
NESTED = b"[" + b"[]," * 300_000 + b"[]]"
WHOLE = {
    **hostile.WHOLE,
    "model": "m",
    "choices": [{"index": 0, "message": {"content": LONG}, "finish_reason": "stop"}],
}
ASKED = (
    *("status", "failure_kind", "words", "is_ok", "is_page", "is_web_page", "is_denied"),
    *("is_closed_at_once", "is_rate_limited", "first_byte_ms", "spent_ms", "completion", "spent"),
    *("form", "is_stream", "first_output_ns", "coding_problem", "retry_after_s"),
)


def facts(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ASKED}


def stream() -> list[tuple[float, bytes]]:
    piece = hostile.delta("some words", model="m")
    return [(5.0, hostile.delta(model="m")), (9.0, piece * 500), (10.0, hostile.DONE)]


@pytest.mark.parametrize(
    ("status", "headers", "body", "wants_stream", "pieces"),
    [
        (200, JSON, WHOLE, False, []),
        (200, STREAM, b"", True, stream()),
        (200, JSON, WHOLE, True, []),
        (500, JSON, {"error": {"message": LONG}}, True, []),
        (403, JSON, NESTED, False, []),
        (400, JSON, b'{"permission":"' + LONG.encode() + b'"}', False, []),
        (503, {"content-type": "text/html"}, b"<html>" + LONG.encode(), True, []),
        (200, {}, b"", False, []),
    ],
)
def test_what_is_asked_afterwards_has_the_same_answer(
    status: int, headers: Any, body: object, wants_stream: bool, pieces: Any
) -> None:
    def new() -> Answer:
        request = chat.completion("m", "hi", 16, wants_stream)
        return answers.answer(status, headers, body, request=request, pieces=pieces, spent_ms=11.0)

    kept, let_go = new(), new()
    let_go.let_go()
    assert facts(let_go) == facts(kept)
    assert let_go.record(0) == kept.record(0)


@pytest.mark.hostile
def test_a_hundred_long_answers_take_little_memory() -> None:
    tracemalloc.start()
    try:
        kept = []
        for _ in range(20):
            found = answers.answer(403, JSON, NESTED)
            assert isinstance(found.json, list)
            found.let_go()
            kept.append(found)
        assert tracemalloc.get_traced_memory()[0] < 4 << 20  # it was 20 x 23 MB
        assert {found.json for found in kept} == {None}
    finally:
        tracemalloc.stop()


def test_all_answers_of_a_large_reply_have_the_stream_that_was_read_of_it_whole() -> None:
    piece = hostile.delta(" word", model="m")
    first = answers.answer(
        200, STREAM, request=chat.completion("m", "hi", 16, True), pieces=[(5.0, piece * 8000)]
    )
    assert len(first.stream.output_ns) == 8000 and len(first.body) < 1 << 20
    second = Answer(first.reply)
    assert second.stream is first.stream and second.figures["ttft_ms"] == 5.0
    second.condense()
    assert len(Answer(second.reply).stream.output_ns) == 1
