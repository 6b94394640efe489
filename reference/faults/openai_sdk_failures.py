"""Failures that only some requests of test_openai_sdk.py meet: it looks at all its answers."""

from __future__ import annotations

from aiohttp import web

from .answers import (
    change_json,
    error_200,
    error_500,
    instead,
    json_200,
)
from .completions import (
    Fields,
)
from .conditions import (
    every,
    given,
    no_streams,
    number_is,
    on_path,
    only,
    streams,
)
from .fault import Fault, Install
from .openai_sdk import HTML, SDK, end_at_once, one_model, row
from .planting import on_events
from .streams import (
    cut,
)


def now_and_then(name: str, breaks: str, install: Install, check: str = "answers") -> Fault:
    quick = {"ttft_ms": 5, "itl_ms": 5}
    return Fault(
        f"sdk-{name}", breaks, SDK, check, install, options=quick, arguments=("--max-tokens", "16")
    )


ERROR = error_200("backend")
NO_CHOICES: Fields = {"id": "chatcmpl-1", "object": "chat.completion"}
NOT_FOUND = instead("backend", status=404, text='{"error": {"message": "model not found"}}')

ROWS: tuple[Fault, ...] = (
    now_and_then("error-200", "one answer in five is a 200 with an error", only(every(5), ERROR)),
    now_and_then("third-500", "every third answer is a 500", only(every(3), error_500("backend"))),
    now_and_then(
        "twentieth-error", "one answer in twenty is a 200 with an error", only(every(20), ERROR)
    ),
    now_and_then(
        "runner-lacks-model",
        "every second request meets a 404, as from a runner without the model",
        only(every(2), NOT_FOUND),
        "n",
    ),
    now_and_then("streams-error", "every stream is a 200 with an error", only(streams, ERROR)),
    now_and_then(
        "third-stream-cut",
        "every third stream ends after a few tokens",
        only(streams, only(every(3), on_events(cut))),
    ),
    now_and_then(
        "whole-error", "every answer but streams is an error", only(no_streams, ERROR), "stop"
    ),
    now_and_then(
        "null-choices",
        "one answer in five has null in the place of its choices",
        only(every(5), json_200("backend", {**NO_CHOICES, "choices": None})),
    ),
    now_and_then(
        "no-choices",
        "one answer in five has an empty list of choices",
        only(every(5), json_200("backend", {**NO_CHOICES, "choices": []})),
    ),
    now_and_then(
        "no-message",
        "one answer in five has a choice without a message",
        only(every(5), json_200("backend", {**NO_CHOICES, "choices": [{"index": 0}]})),
    ),
    now_and_then(
        "empty-body",
        "one answer in five is a 200 without a body",
        only(every(5), instead("backend")),
    ),
    now_and_then(
        "some-html",
        "one answer in five is a 200 with a web page",
        only(every(5), instead("backend", **HTML)),
    ),
    now_and_then(
        "some-empty",
        "one answer in seven has no content",
        only(every(7), change_json("backend", end_at_once)),
    ),
    now_and_then(
        "first-models", "the first model list is a 500", only(number_is(1), error_500("models"))
    ),
    row(
        "tools",
        "tools-error",
        "a request with tools gets a 200 with an error",
        only(given("tools"), ERROR),
    ),
    row("n", "n-error", "a request with n gets a 200 with an error", only(given("n"), ERROR)),
    row(
        "json_schema",
        "schema-error",
        "a request with response_format gets a 200 with an error",
        only(given("response_format"), ERROR),
    ),
    row("models", "models-error", "the model list is a 200 with an error", error_200("models")),
    row(
        "retrieve",
        "retrieve-error",
        "retrieving a model gets a 200 with an error",
        one_model(lambda _: web.json_response({"error": {"message": "planted"}})),
    ),
    row(
        "embeddings",
        "embeddings-error",
        "embeddings get a 200 with an error",
        only(on_path("/v1/embeddings"), ERROR),
    ),
    row(
        "pacing",
        "pacing-error",
        "a stream is a 200 with an error",
        only(streams, ERROR),
    ),
    row(
        "unknown_model",
        "unknown-error",
        "a request for an unknown model gets a 200 with an error",
        only(lambda asked: str(asked.fields.get("model")).startswith("no-such"), ERROR),
    ),
    row(
        "wrong_key",
        "key-error-200",
        "a wrong key gets a 200 with an error",
        only(lambda asked: "sk-wrong" in asked.request.headers["Authorization"], error_200("all")),
    ),
)
