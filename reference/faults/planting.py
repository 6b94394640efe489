"""The ways to plant a fault. Each function gives an `install` for a row; see `hooks.py`."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from ..engine_client import events
from ..hooks import Handler, Hooks, Wrapper
from .fault import Install

EventFilter = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
# A wrapper whose first argument is the gateway: `GgufGateway` or `FleetGateway`.
GatewayWrapper = Callable[[Any, Handler, web.BaseRequest], Awaitable[web.StreamResponse]]


def nothing(hooks: Hooks) -> None:
    """The deployment stays sound: the settings or the script's expectation are wrong."""


def all_of(*installs: Install) -> Install:
    """Plant all of these."""

    def install(hooks: Hooks) -> None:
        for each in installs:
            each(hooks)

    return install


def around(where: str, wrapper: Wrapper) -> Install:
    """Put `wrapper` around the handler with this name."""
    return lambda hooks: hooks.around[where].append(wrapper)


def late(delay_s: float) -> Wrapper:
    """Around a handler: it begins so much later."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        return await handler(request)

    return wrapper


def change_fields(change: Callable[[dict[str, Any]], None]) -> Install:
    """The engine gets other JSON than what was sent."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = json.loads(await request.read())
        change(fields)
        request._read_bytes = json.dumps(fields).encode()
        return await handler(request)

    return around("inference", wrapper)


def on_gateway(change: Callable[[Any], None]) -> Install:
    """Call `change` with the gateway before it serves: it can replace a part of the gateway."""
    return lambda hooks: hooks.setup.append(change)


def around_with_gateway(where: str, wrapper: GatewayWrapper) -> Install:
    """Put `wrapper` around the handler with this name; its first argument is the gateway."""

    def install(hooks: Hooks) -> None:
        def setup(gateway: Any) -> None:
            around(where, functools.partial(wrapper, gateway))(hooks)

        hooks.setup.append(setup)

    return install


def stream_header(name: str, value: str) -> Install:
    """Set this header on every stream."""

    def change(headers: CIMultiDict[str]) -> None:
        headers[name] = value

    return lambda hooks: hooks.stream_headers.append(change)


def on_events(change: EventFilter) -> Install:
    """Filter every stream, event by event."""
    return lambda hooks: hooks.stream_filters.append(lambda chunks: change(events(chunks)))
