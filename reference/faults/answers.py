"""Whole answers that faults give instead of the sound ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..hooks import Handler
from ..refusals import JsonRefusal, queue_full
from .conditions import every, given, only
from .fault import Install
from .planting import around


def instead(where: str, *args: Any, **kwargs: Any) -> Install:
    """Another answer from the handler with this name; the arguments are those of web.Response."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(*args, **kwargs)

    return around(where, wrapper)


def plain_text(where: str, status: int, text: str = "planted") -> Install:
    """An error in plain text, as the fleet's gateway has them."""
    return instead(where, status=status, text=text)


def error_500(where: str) -> Install:
    """An error in JSON, as the GGUF gateway has them."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return server_error()

    return around(where, wrapper)


def json_200(where: str, content: object) -> Install:
    """A 200 with this JSON."""
    return instead(where, text=json.dumps(content), content_type="application/json")


def error_200(where: str) -> Install:
    """A 200 whose JSON is an error object."""
    error = {"message": "planted", "type": "server_error", "code": "internal_error"}
    return json_200(where, {"error": error})


# the page of a web application, which answers any path with it
APP: dict[str, Any] = {
    "text": "<!doctype html><html><head><title>Chat</title></head><body><div id=root></div></body>",
    "content_type": "text/html",
}
# an error of FastAPI, in a 200 that says that it is an event stream
DETAIL_200 = instead(
    "backend", text=json.dumps({"detail": "out of memory"}), content_type="text/event-stream"
)


def server_error() -> web.Response:
    return JsonRefusal(500, "planted", "server_error", "internal_error").response()


async def always_full(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return queue_full().response()


async def never_answer(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("this event is never set")


def change_json(where: str, change: Callable[[dict[str, Any]], object]) -> Install:
    """Change every JSON object that is an answer in place; streams are not changed."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response) and response.content_type == "application/json":
            fields = json.loads(response.text or "{}")
            change(fields)
            response.text = json.dumps(fields)
        return response

    return around(where, wrapper)


def change_status(status: int, change: Callable[[web.Response], object]) -> Install:
    """Change every answer with this status in place; streams are not changed."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if response.status == status and isinstance(response, web.Response):
            change(response)
        return response

    return around("all", wrapper)


every_third_fails = only(every(3), instead("backend", status=500))


def refuses_parameter(name: str, message: str) -> Install:
    """The engine refuses a parameter as OpenAI's API does, and names it."""
    error = {"message": message, "type": "invalid_request_error", "param": name}
    content = {"error": {**error, "code": "unsupported_parameter"}}
    refusal = instead(
        "backend", status=400, text=json.dumps(content), content_type="application/json"
    )
    return only(given(name), refusal)


MAX_TOKENS_REFUSED = refuses_parameter(
    "max_tokens",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.",
)
# what OpenAI's reasoning models say in a 400 when max_completion_tokens is too little for them
NO_ROOM = json.dumps(
    {
        "error": {
            "message": "Could not finish the message because max_tokens or model output limit was "
            "reached. Please try again with higher max_tokens.",
            "type": "invalid_request_error",
        }
    }
)
TEMPERATURE_REFUSED = refuses_parameter(
    "temperature",
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
    "value is supported.",
)
