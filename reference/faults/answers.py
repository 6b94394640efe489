"""Whole answers that faults give instead of the sound ones."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from aiohttp import web

from ..hooks import Handler, Hooks
from ..refusals import JsonRefusal, queue_full
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


def server_error() -> web.Response:
    return JsonRefusal(500, "planted", "server_error", "internal_error").response()


async def always_full(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return queue_full().response()


async def never_answer(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("this event is never set")


def every_third_fails(hooks: Hooks) -> None:
    """Every third answer of the engine is a 500."""
    count = itertools.count(1)

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500) if next(count) % 3 == 0 else await handler(request)

    hooks.around["backend"].append(wrapper)
