"""An Answer says the same thing in every script: what failed, in which words, when and how fast."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.answers import answer, event, streamed

from livecheck.wire import chat
from livecheck.wire.answer import Answer, records
from livecheck.wire.wire import Failure, Reply, Request

CHAT = chat.completion("m", "Hello", 8)
WHOLE = chat.completion("m", "Hello", 8, stream=False)
EVENTS = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
DONE = b"data: [DONE]\n\n"


def stream_of(*pieces: bytes) -> Answer:
    return answer(
        200, EVENTS, request=CHAT, pieces=[(n + 1.0, each) for n, each in enumerate(pieces)]
    )


def test_a_stream_that_is_whole_has_no_error_and_all_its_figures() -> None:
    record = streamed(10, gap_ms=5, request=CHAT, usage={"completion_tokens": 2}).record(0)
    assert record["error"] is None
    assert (record["ttft_ms"], record["e2e_ms"], record["output_tokens"]) == (10, 20, 2)
    assert list(record["event_ms"]) == [10, 15]
    assert (record["tpot_ms"], record["tokens_per_s"]) == (5, 200)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (
            answer(None, failure=Failure("timeout", "not finished after 3 s")),
            "timeout",
            "after 3 s",
        ),
        (answer(None, failure=Failure("tls", "TLS failed")), "connect", "TLS failed"),
        (answer(503, JSON, {"error": {"message": "Server busy"}}), "503", "503 Server busy"),
        (answer(418, {}, b"<html><title>x</title>a teapot</html>"), "4xx", "418 a teapot"),
        (answer(200, JSON, {"a": 1}, request=CHAT), "malformed", "no event stream"),
        (stream_of(b"data: {oops\n\n", DONE), "malformed", "is not JSON"),
        (stream_of(event({"content": "Hi"}), DONE), "truncated", "finish_reason"),
        (stream_of(event({"role": "assistant"}, "stop"), DONE), "empty", "output"),
        (stream_of(b'data: {"error": {"message": "no"}}\n\n', DONE), "stream_error", "no"),
    ],
)
def test_a_stream_that_failed_has_the_kind_and_the_words_for_it(
    given: Answer, kind: str, words: str
) -> None:
    error = given.stream_error
    assert error and error.kind == kind and words in error.text
    assert given.record(0)["error"] == kind


def test_a_completion_is_read_in_whichever_form_it_comes() -> None:
    choice = {"message": {"content": "Hi"}, "finish_reason": "stop"}
    body = {"model": "m1", "choices": [choice], "system_fingerprint": "f"}
    for request in (CHAT, WHOLE):  # some servers ignore `stream`
        found = answer(200, JSON, body, request=request).completion
        assert (found.model, found.has_output, found.problem, found.fingerprint) == (
            "m1",
            True,
            None,
            "f",
        )
    assert streamed(1, request=CHAT).completion.model == "m"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"choices": []}, "no chat completion"),
        ({"choices": [{"message": {"content": ""}}]}, "without content"),
        (b"not JSON", "no chat completion: not JSON"),
    ],
)
def test_a_200_without_a_completion_says_what_is_there_in_its_place(
    body: Any, problem: str
) -> None:
    found = answer(200, JSON, body, request=WHOLE).completion
    assert found.problem and problem in found.problem


def test_tokens_that_are_counted_and_not_shown_are_hidden_reasoning() -> None:
    choice = {"message": {"content": ""}, "finish_reason": "length"}
    body = {"choices": [choice], "usage": {"completion_tokens": 8}}
    found = answer(200, JSON, body, request=WHOLE).completion
    assert (found.problem, found.is_hidden) == (None, True)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "slow down", "code": "rate_limit_exceeded"}},
        {"error": {"type": "throttling_error", "code": "429"}},
        {"error": {"code": "queue_full"}},
        b"<html><head><title>429 Too Many Requests</title></head></html>",
        b"slow down",
        b"",
    ],
)
def test_any_429_is_a_rate_limit(body: object) -> None:
    limited = answer(429, {"Retry-After": "60"}, body)
    assert limited.is_rate_limited and limited.retry_after_s == 60
    assert limited.record(0)["excluded"] is True


PAGE = b"\r\n<html><head><title>503 Service Temporarily Unavailable</title></head></html>"


@pytest.mark.parametrize(
    ("status", "body", "looks"),
    [
        (503, PAGE, True),
        (503, {"error": {"message": "Too many requests, slow down"}}, True),
        (503, {"error": {"message": "Server busy, try again later"}}, False),
        (503, b"Runner is waking up", False),
        (503, b"", False),
        (502, PAGE, False),
    ],
)
def test_only_a_503_of_a_proxys_limit_looks_like_one(
    status: int, body: object, looks: bool
) -> None:
    found = answer(status, {}, body)
    assert found.looks_like_limit is looks
    assert not found.is_rate_limited  # that takes more than its looks


@pytest.mark.parametrize(
    ("status", "body", "denied"),
    [(403, b"", True), (400, b"Permission denied: ask a class", True), (400, b"bad", False)],
)
def test_the_fleets_own_400_is_a_refusal_as_well(status: int, body: bytes, denied: bool) -> None:
    assert answer(status, {}, body).is_denied is denied


def test_what_a_server_says_is_one_printable_line_without_the_credential() -> None:
    told = answer(500, {"X-Who": "key sk-secret \x1b[2J"}, {"error": {"message": "a\x1b[2J\nb"}})
    told.reply.secret = b"sk-secret"
    assert told.words.isprintable() and "\n" not in told.words
    shown = told.shown_header("x-who") or ""
    assert shown.isprintable() and "sk-secret" not in shown


def test_a_redirect_names_its_target() -> None:
    assert answer(301, {"Location": "https://other.example/"}).outcome() == (
        "301 redirect to https://other.example/"
    )


def test_nobody_is_there_when_no_connection_or_no_byte_came() -> None:
    assert answer(None, failure=Failure("connect", "connection refused")).is_unreachable
    assert answer(None, failure=Failure("truncated", "closed")).is_unreachable
    assert not answer(200, failure=Failure("truncated", "closed")).is_unreachable
    assert not answer(None, failure=Failure("timeout", "late")).is_unreachable


def test_records_count_from_the_first_request_that_began() -> None:
    first, second = answer(200, sent_ns=5_000_000), answer(200, sent_ns=9_000_000)
    assert [record["sent_ms"] for record in records([second, first])] == [4, 0]


def test_thoughts_that_used_up_max_tokens_are_named_beside_a_missing_finish_reason() -> None:
    counts = b'data: {"choices": [], "usage": {"completion_tokens": 8}}\n\n'
    error = stream_of(event({"role": "assistant"}), counts, DONE).stream_error
    assert error and error.kind == "truncated"
    assert "all 8 tokens went into thoughts" in error.text


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"max_tokens": 8}', 8),
        (b'{"max_completion_tokens": 9}', 9),
        (b'{"max_output_tokens": 7}', 7),
        *((b"{}", None), (b"[]", None), (b"", None), (b"no", None)),
    ],
)
def test_the_limit_of_a_request(body: bytes, asked: int | None) -> None:
    assert Answer(Reply(0, Request("POST", "/", body))).most_tokens == asked
