"""The faults that test_scale_to_zero.py must notice."""

from __future__ import annotations

import asyncio
import functools
import shlex
import sys
from collections.abc import AsyncIterator

from aiohttp import web

from ..engine_client import events
from ..hooks import Handler, Hooks
from .answers import APP, DETAIL_200, error_500, instead, never_answer
from .fault import Fault, Install
from .gateway_parts import GgufGateway
from .planting import GatewayWrapper, around, around_with_gateway, on_gateway
from .streams import cut

SCRIPT = "test_scale_to_zero.py"
SLEEPY = {"idle_timeout": 1, "load_ms": 800, "ttft_ms": 20, "itl_ms": 2}
WARM_REQUESTS = 4  # that the script sends before it waits for the engine to stop
PROBES_ASLEEP = 6  # more than are needed to prove zero workers, fewer than are sent afterwards
TOO_SLOW_S = 5
LATE_S = 1.3  # later than Kubernetes waits for a probe

# The gateway's own /ping is used in place of the health server, because faults can change it.
QUICK = (
    *("--health-url", "/ping", "--idle-timeout", "3", "--probe-interval", "0.3"),
    *("--cold-start-timeout", "20", "--max-tokens", "4"),
)
WITHOUT_CONTROL = (*QUICK, "--no-control")
ASK_HEALTH = """import json, os, urllib.request
health = json.load(urllib.request.urlopen(os.environ["INFERENCE_URL"] + "/health"))
print(int(health["backend"].get("status") != "stopped"))"""
COUNT_WORKERS = ("--workers-command", shlex.join([sys.executable, "-c", ASK_HEALTH]))

_scale = functools.partial(Fault, script=SCRIPT, options=SLEEPY, arguments=WITHOUT_CONTROL)


# --- when a wrapper is used


def after(count: int, where: str, wrapper: GatewayWrapper) -> Install:
    """Use the wrapper for all requests except the first `count`."""
    served = 0

    async def later(
        gateway: GgufGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        nonlocal served
        served += 1
        if served > count:
            return await wrapper(gateway, handler, request)
        return await handler(request)

    return around_with_gateway(where, later)


def asleep(wrapper: GatewayWrapper) -> GatewayWrapper:
    """Use the wrapper only while the engine is stopped."""

    async def check(
        gateway: GgufGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        if gateway.engine.url is None:
            return await wrapper(gateway, handler, request)
        return await handler(request)

    return check


def with_status(status: int) -> GatewayWrapper:
    async def wrapper(
        gateway: GgufGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        return web.Response(status=status)

    return wrapper


# --- when the engine stops, and what probes do to it


def never_sleep(gateway: GgufGateway) -> None:
    # The watcher of the engine has not started yet, and without a time-out it never will.
    gateway.engine.idle_timeout_s = 0


async def use_engine(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """As an inference request does: start the engine if needed and restart its idle time."""
    async with gateway.engine.use():
        return await handler(request)


async def start_engine(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    await gateway.engine.start()
    return await handler(request)


def start_engine_later(hooks: Hooks) -> None:
    """A few probes find the engine stopped, then one starts it."""
    probes = 0

    async def wrapper(
        gateway: GgufGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        nonlocal probes
        probes += 1
        if probes >= PROBES_ASLEEP:
            await gateway.engine.start()
        return await handler(request)

    around_with_gateway("ping", asleep(wrapper))(hooks)


# --- the health URL


async def hang(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    return await never_answer(handler, request)


async def answer_late(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    await asyncio.sleep(LATE_S)
    return await handler(request)


async def end_late(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    """The head comes at once, and the rest of the answer late."""
    response = web.StreamResponse(headers={"Content-Length": "4"})
    await response.prepare(request)
    await asyncio.sleep(LATE_S)
    await response.write(b"pong")
    return response


async def close_connection(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("planted")


# --- the request that wakes the engine, and those after it


async def wake_slowly(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    await asyncio.sleep(TOO_SLOW_S)
    return await handler(request)


def cut_when_cold(hooks: Hooks) -> None:
    """The stream of a request that wakes the engine ends after a few tokens."""
    woken = False

    async def note(
        gateway: GgufGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        nonlocal woken
        woken = True
        return await handler(request)

    async def change(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        nonlocal woken
        if woken:
            woken, chunks = False, cut(events(chunks))
        async for chunk in chunks:
            yield chunk

    after(WARM_REQUESTS, "inference", asleep(note))(hooks)
    hooks.stream_filters.append(change)


async def stop_after_answer(
    gateway: GgufGateway, handler: Handler, request: web.BaseRequest
) -> web.StreamResponse:
    response = await handler(request)
    await gateway.engine.stop()
    return response


def first_fails(hooks: Hooks) -> None:
    requests = 0

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        return web.Response(status=500) if requests == 1 else await handler(request)

    around("inference", wrapper)(hooks)


ROWS: tuple[Fault, ...] = (
    _scale(
        "scale-first-fails",
        "the first request is a 500",
        check="warm",
        install=first_fails,
        arguments=(*WITHOUT_CONTROL, "--only", "warm"),
    ),
    _scale(
        "scale-refused-in-200",
        "a stream is a 200 whose event stream is the JSON of a framework's error",
        check="warm",
        install=DETAIL_200,
        arguments=(*WITHOUT_CONTROL, "--only", "warm"),
    ),
    _scale(
        "health-is-app",
        "the health URL is the page of a web application",
        check="health",
        status="WARN",
        install=instead("ping", **APP),
    ),
    _scale(
        "scale-never",
        "the engine never stops for idleness",
        check="scale_down",
        install=on_gateway(never_sleep),
        arguments=QUICK,
    ),
    _scale(
        "scale-never-counted",
        "the engine never stops for idleness, as a count of the workers shows",
        check="scale_down",
        install=on_gateway(never_sleep),
        arguments=(*QUICK, *COUNT_WORKERS),
    ),
    _scale(
        "probes-keep-awake",
        "a health probe counts as use of the engine",
        check="scale_down",
        install=around_with_gateway("ping", use_engine),
        arguments=QUICK,
    ),
    _scale(
        "probes-wake",
        "a health probe starts the sleeping engine",
        check="scale_down",
        install=around_with_gateway("ping", start_engine),
        arguments=(*QUICK, *COUNT_WORKERS),
    ),
    _scale(
        "probes-wake-later",
        "the sixth health probe starts the sleeping engine",
        check="undisturbed",
        install=start_engine_later,
        arguments=(*WITHOUT_CONTROL, *COUNT_WORKERS),
    ),
    _scale("health-url-500", "the health URL is a 500", check="health", install=error_500("ping")),
    _scale(
        "health-url-503-asleep",
        "the health URL is a 503 while the engine sleeps",
        check="health",
        install=around_with_gateway("ping", asleep(with_status(503))),
    ),
    _scale(
        "health-url-gone-asleep",
        "the health URL closes the connection while the engine sleeps",
        check="health",
        install=around_with_gateway("ping", asleep(close_connection)),
    ),
    _scale(
        "health-url-hangs-asleep",
        "the health URL does not answer while the engine sleeps",
        check="health",
        install=around_with_gateway("ping", asleep(hang)),
        arguments=(*WITHOUT_CONTROL, "--timeout", "2"),
    ),
    _scale(
        "health-url-slow-asleep",
        "the health URL needs longer than a probe may take, while the engine sleeps",
        check="health",
        install=around_with_gateway("ping", asleep(answer_late)),
    ),
    _scale(
        "health-url-slow-asleep-counted",
        "the health URL needs too long while the engine sleeps, where workers are counted",
        check="health",
        install=around_with_gateway("ping", asleep(answer_late)),
        arguments=(*WITHOUT_CONTROL, *COUNT_WORKERS),
    ),
    _scale(
        "health-url-slow",
        "the health URL needs longer than a probe may take, always",
        check="health",
        install=around_with_gateway("ping", answer_late),
    ),
    _scale(
        "health-url-body-late",
        "the health URL sends a head at once, and its body later than a probe may take",
        check="health",
        install=around_with_gateway("ping", end_late),
    ),
    _scale(
        "health-url-body",
        "the health URL answers with a longer text than expected",
        check="health",
        status="WARN",
        install=instead("ping", text="all systems go"),
    ),
    _scale(
        "cold-502",
        "the request that wakes the engine is a 502",
        check="cold_start",
        install=after(WARM_REQUESTS, "inference", asleep(with_status(502))),
    ),
    _scale(
        "cold-cut",
        "the stream of the request that wakes the engine is cut off",
        check="cold_start",
        install=cut_when_cold,
        arguments=(*WITHOUT_CONTROL, "--max-tokens", "16"),
    ),
    _scale(
        "cold-too-slow",
        "the engine needs longer to wake than allowed",
        check="cold_start",
        install=after(WARM_REQUESTS, "inference", asleep(wake_slowly)),
        arguments=(*WITHOUT_CONTROL, "--cold-start-timeout", "5"),
    ),
    _scale(
        "cold-again",
        "after its first sleep the engine is stopped after each request",
        check="warm_again",
        install=after(WARM_REQUESTS, "inference", stop_after_answer),
    ),
    _scale(
        "after-cold-502",
        "the request after the one that wakes the engine is a 502",
        check="warm_again",
        install=after(WARM_REQUESTS + 1, "inference", with_status(502)),
    ),
)
