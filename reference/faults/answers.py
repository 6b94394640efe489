"""Whole answers that faults give instead of the sound ones."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from aiohttp import web

from ..hooks import Handler, Hooks
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
    body = {"error": {"message": "planted", "type": "server_error", "code": "internal_error"}}
    return instead(where, status=500, text=json.dumps(body), content_type="application/json")


def queue_full() -> web.Response:
    """The answer of the GGUF gateway when its queue is full."""
    error = {"message": "Server busy, try again later", "type": "server_error"}
    body = {"error": {**error, "code": "queue_full"}}
    headers = {"Retry-After": "5", "Content-Type": "application/json"}
    return web.Response(status=503, text=json.dumps(body), headers=headers)


async def always_full(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return queue_full()


async def never_answer(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("this event is never set")


def every_third_fails(hooks: Hooks) -> None:
    """Every third answer of the engine is a 500."""
    count = itertools.count(1)

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500) if next(count) % 3 == 0 else await handler(request)

    hooks.around["backend"].append(wrapper)
