"""The words of an error are found in whichever form a server sends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers.answers import answer

from livecheck.wire import chat
from livecheck.wire.error_words import error_in_place_of_completion, is_web_page

STREAM = chat.completion("m", "Hello", 8)
WHOLE = chat.completion("m", "Hello", 8, stream=False)
EVENTS = {"content-type": "text/event-stream"}
WORDS = "no such model"

# server: (its body, the words to be shown)
JSON_FORMS: dict[str, tuple[Any, str]] = {
    "OpenAI": ({"error": {"message": WORDS, "type": "x", "code": None}}, WORDS),
    "a text": ({"error": WORDS}, WORDS),
    "older vLLM": ({"object": "error", "message": WORDS, "code": 400}, WORDS),
    "Anthropic": ({"type": "error", "error": {"type": "overloaded", "message": WORDS}}, WORDS),
    "Google, in a list": ([{"error": {"code": 400, "message": WORDS, "status": "X"}}], WORDS),
    "FastAPI": ({"detail": WORDS}, WORDS),
    "FastAPI, a list": (
        {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]},
        "body.model: Field required",
    ),
    "FastAPI, an object": ({"detail": {"error": {"message": WORDS}}}, WORDS),
    "Spring": (
        {"timestamp": "2026-01-01", "status": 400, "error": "Bad Request", "message": WORDS},
        f"Bad Request: {WORDS}",
    ),
    "Spring without a message": ({"status": 404, "error": "Not Found", "path": "/v1"}, "Not Found"),
    "OAuth": (
        {"error": "invalid_token", "error_description": "it has expired"},
        "invalid_token: it has expired",
    ),
    "AWS": ({"__type": "ValidationException", "Message": WORDS}, WORDS),
    "AWS API gateway": ({"message": "Forbidden"}, "Forbidden"),
    "Lambda": ({"errorMessage": WORDS, "errorType": "Runtime.Error"}, WORDS),
    "gRPC gateway": ({"code": 5, "message": WORDS, "details": []}, WORDS),
    "Cloudflare's API": (
        {"success": False, "errors": [{"code": 10000, "message": WORDS}], "result": None},
        WORDS,
    ),
    "GraphQL": ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
    "texts in a list": ({"errors": ["one", "two", "three", "four"]}, "one; two; three and 1 more"),
    "RFC 9457": (
        {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": WORDS},
        f"Bad Request: {WORDS}",
    ),
    "ASP.NET": (
        {"title": "Validation failed", "status": 400, "errors": {"model": ["is required"]}},
        "Validation failed: model: is required",
    ),
    "Django": ({"model": ["is required"]}, "is required"),
    "Apigee": ({"fault": {"faultstring": WORDS, "detail": {"errorcode": "x"}}}, WORDS),
    "MiniMax": ({"base_resp": {"status_code": 1004, "status_msg": WORDS}}, WORDS),
    "msg": ({"code": 400, "msg": WORDS, "data": None}, WORDS),
    "nested": ({"error": {"error": {"message": WORDS}}}, WORDS),
    "JSON in a text": ({"error": {"message": json.dumps({"error": {"message": WORDS}})}}, WORDS),
    "a string": ("upstream is away", "upstream is away"),
    "only a code": ({"error": {"code": 404, "status": "NOT_FOUND"}}, "404 NOT_FOUND"),
    "unknown": ({"oops": {"a": 1}}, '{"oops": {"a": 1}}'),
}
PAGES: dict[str, tuple[bytes, str]] = {
    "nginx": (
        b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad "
        b"Gateway</h1></center>\r\n<hr><center>nginx/1.24.0</center>\r\n</body>\r\n</html>",
        "Bad Gateway nginx/1.24.0",
    ),
    "only a title": (b"<html><head><title>It is away</title></head></html>", "It is away"),
    "a long style": (
        b"<!DOCTYPE html><!--[if lt IE 7]> <html> <![endif]--><style>"
        + b"a{}" * 4000
        + b"</style><!-- a > b --><h1>Web server is down</h1> Error&nbsp;521",
        "Web server is down Error 521",
    ),
    "XML": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No</Message></Error>",
        "AccessDenied No",
    ),
}
TEXTS: dict[str, tuple[bytes, str]] = {
    "Envoy": (b"upstream connect error or disconnect/reset", "upstream connect error or"),
    "an event": (b'data: {"error": {"message": "it is full"}}\n\n', "it is full"),
    "a named event": (b'event: error\ndata: {"message": "it is full"}\n\n', "it is full"),
    "llama.cpp": (b'error: {"code": 500, "message": "it is full"}\n\n', "it is full"),
}
BODIES = {
    **{name: (json.dumps(body).encode(), words) for name, (body, words) in JSON_FORMS.items()},
    **PAGES,
    **TEXTS,
}


@pytest.mark.parametrize("form", BODIES)
def test_the_words_of_a_refusal_are_shown(form: str) -> None:
    body, words = BODIES[form]
    refused = answer(502, {}, body, request=STREAM).stream_error
    assert refused and words in refused.text
    assert refused.text.count(words) == 1  # and nothing twice


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/html", ""])
@pytest.mark.parametrize("form", BODIES)
def test_the_words_in_place_of_a_stream_are_shown(form: str, kind: str) -> None:
    body, words = BODIES[form]
    headers = {"content-type": kind} if kind else {}
    error = answer(200, headers, body, request=STREAM).stream_error
    assert error and words in error.text, error


@pytest.mark.parametrize("form", BODIES)
def test_the_words_in_place_of_a_completion_are_shown(form: str) -> None:
    body, words = BODIES[form]
    problem = answer(200, {}, body, request=WHOLE).completion.problem
    assert problem and words in problem, problem


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"WWW-Authenticate": 'Bearer error="invalid_token", error_description="too old"'}, "old"),
        ({"grpc-message": "no upstream"}, "no upstream"),
        ({"x-amzn-ErrorType": "ForbiddenException"}, "ForbiddenException"),
    ],
)
def test_an_error_without_a_body_may_say_it_in_its_head(
    headers: dict[str, str], words: str
) -> None:
    assert words in answer(401, headers).words


def test_an_event_without_choices_says_why_the_stream_does_not_end() -> None:
    for event in (b'data: {"detail": "out of memory"}\n\n', b"error: out of memory\n\n"):
        broken = answer(200, EVENTS, b'data: {"choices": []}\n\n' + event, request=STREAM)
        error = broken.stream_error
        assert error and "out of memory" in error.text


@pytest.mark.parametrize(
    "content",
    [
        {"id": "x", "choices": [{"message": {"content": "hi"}}], "error": None},
        {"object": "list", "data": []},
        {"status": "ok"},
        {"type": "ping"},
        {"id": "x", "title": "a model"},
    ],
)
def test_an_answer_is_no_error(content: object) -> None:
    assert error_in_place_of_completion(content) is None


@pytest.mark.parametrize(
    ("body", "is_page"),
    [
        (b"<!DOCTYPE html><html>", True),
        (b"\xef\xbb\xbf\n<!-- x -->\n<HTML lang='en'>", True),
        (b"pong", False),
        (b"", False),
        (b"<pong/>", False),
        (b'{"html": "<html>"}', False),
    ],
)
def test_a_web_page_is_known_by_its_beginning(body: bytes, is_page: bool) -> None:
    assert is_web_page(body) is is_page
