"""What test_scale_to_zero.py must notice."""

from __future__ import annotations

import asyncio
import functools
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from ..hooks import Answer, Hooks
from .parts import Fault, Install, around, cut, error_500, events, instead

SCALE = "test_scale_to_zero.py"
SLEEPY = {"idle_timeout": 1, "load_ms": 800, "ttft_ms": 20, "itl_ms": 2}
WARM = 4  # requests of the script before it waits: only what comes later should be cold
PROBES_ASLEEP = 6  # more than it takes to prove zero, fewer than are sent after the proof
TOO_SLOW_S = 5

# the gateway's own /ping stands for the health server: the hooks reach it
QUICK = (
    *("--health-url", "/ping", "--idle-timeout", "3", "--probe-interval", "0.3"),
    *("--cold-start-timeout", "20", "--max-tokens", "4"),
)
ALONE = (*QUICK, "--no-control")
ASK = """import json, os, urllib.request
health = json.load(urllib.request.urlopen(os.environ["INFERENCE_URL"] + "/health"))
print(int(health["backend"].get("status") != "stopped"))"""
COUNT = ("--workers-command", shlex.join([sys.executable, "-c", ASK]))

Change = Callable[[Any, Answer, web.BaseRequest], Awaitable[web.StreamResponse]]

_scale = functools.partial(Fault, script=SCALE, options=SLEEPY, arguments=ALONE)


def with_gateway(where: str, change: Change) -> Install:
    """`change` around an answer; its first argument is the gateway."""

    def install(hooks: Hooks) -> None:
        def setup(gateway: Any) -> None:
            around(where, functools.partial(change, gateway))(hooks)

        hooks.setup.append(setup)

    return install


def after(count: int, where: str, change: Change) -> Install:
    """`change` for all such requests but the first `count`."""
    served = 0

    async def later(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal served
        served += 1
        if served > count:
            return await change(gateway, answer, request)
        return await answer(request)

    return with_gateway(where, later)


def asleep(change: Change) -> Change:
    """`change` only while the engine sleeps."""

    async def check(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        if gateway.engine.url is None:
            return await change(gateway, answer, request)
        return await answer(request)

    return check


def with_status(status: int) -> Change:
    async def change(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    return change


# --- sleep, and what probes do to it


def never_sleep(hooks: Hooks) -> None:
    def setup(gateway: Any) -> None:
        gateway.engine.idle_timeout_s = 0

    hooks.setup.append(setup)


async def use(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    """As an inference request does: that starts the engine, and its idle time anew."""
    async with gateway.engine.use():
        return await answer(request)


async def start(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    await gateway.engine.start()
    return await answer(request)


def start_later(hooks: Hooks) -> None:
    """A few probes find the engine asleep, then one starts it."""
    probes = 0

    async def change(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal probes
        probes += 1
        return await (start if probes >= PROBES_ASLEEP else _pass)(gateway, answer, request)

    with_gateway("ping", asleep(change))(hooks)


async def _pass(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    return await answer(request)


# --- the health URL


async def hang(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("an event nobody sets was set")


async def hang_up(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("planted")


# --- the request that wakes, and those after it


async def wait(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(TOO_SLOW_S)
    return await answer(request)


def cut_when_cold(hooks: Hooks) -> None:
    """The stream of a request that wakes the engine ends after a few tokens."""
    woken = False

    async def note(gateway: Any, answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal woken
        woken = True
        return await answer(request)

    async def change(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        nonlocal woken
        if woken:
            woken, chunks = False, cut(events(chunks))
        async for chunk in chunks:
            yield chunk

    after(WARM, "inference", asleep(note))(hooks)
    hooks.stream.append(change)


async def sleep_at_once(
    gateway: Any, answer: Answer, request: web.BaseRequest
) -> web.StreamResponse:
    response = await answer(request)
    await gateway.engine.stop()
    return response


def first_fails(hooks: Hooks) -> None:
    requests = 0

    async def change(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal requests
        requests += 1
        return web.Response(status=500) if requests == 1 else await answer(request)

    around("inference", change)(hooks)


ROWS: tuple[Fault, ...] = (
    _scale(
        "scale-first-fails",
        "the first request is a 500",
        check="warm",
        install=first_fails,
        arguments=(*ALONE, "--only", "warm"),
    ),
    _scale(
        "scale-never",
        "the engine never stops for idleness",
        check="scale_down",
        install=never_sleep,
        arguments=QUICK,
    ),
    _scale(
        "scale-never-counted",
        "the same, seen by a worker count",
        check="scale_down",
        install=never_sleep,
        arguments=(*QUICK, *COUNT),
    ),
    _scale(
        "probes-keep-awake",
        "a health probe counts as use of the engine",
        check="scale_down",
        install=with_gateway("ping", use),
        arguments=QUICK,
    ),
    _scale(
        "probes-wake",
        "a health probe starts the sleeping engine",
        check="scale_down",
        install=with_gateway("ping", start),
        arguments=(*QUICK, *COUNT),
    ),
    _scale(
        "probes-wake-later",
        "the sixth health probe starts the sleeping engine",
        check="undisturbed",
        install=start_later,
        arguments=(*ALONE, *COUNT),
    ),
    _scale("health-url-500", "the health URL is a 500", check="health", install=error_500("ping")),
    _scale(
        "health-url-503-asleep",
        "the health URL is a 503 while the engine sleeps",
        check="health",
        install=with_gateway("ping", asleep(with_status(503))),
    ),
    _scale(
        "health-url-gone-asleep",
        "the health URL hangs up while the engine sleeps",
        check="health",
        install=with_gateway("ping", asleep(hang_up)),
    ),
    _scale(
        "health-url-hangs-asleep",
        "the health URL is silent while the engine sleeps",
        check="health",
        install=with_gateway("ping", asleep(hang)),
        arguments=(*ALONE, "--timeout", "2"),
    ),
    _scale(
        "health-url-body",
        "the health URL says more than pong",
        check="health",
        status="WARN",
        install=instead("ping", text="all systems go"),
    ),
    _scale(
        "cold-502",
        "the request to a sleeping engine is a 502",
        check="cold_start",
        install=after(WARM, "inference", asleep(with_status(502))),
    ),
    _scale(
        "cold-cut",
        "the stream of the request that wakes is cut off",
        check="cold_start",
        install=cut_when_cold,
        arguments=(*ALONE, "--max-tokens", "16"),
    ),
    _scale(
        "cold-too-slow",
        "waking takes longer than its limit",
        check="cold_start",
        install=after(WARM, "inference", asleep(wait)),
        arguments=(*ALONE, "--cold-start-timeout", "5"),
    ),
    _scale(
        "cold-again",
        "after the first sleep it sleeps after each request",
        check="warm_again",
        install=after(WARM, "inference", sleep_at_once),
    ),
    _scale(
        "after-cold-502",
        "the request after the cold one is a 502",
        check="warm_again",
        install=after(WARM + 1, "inference", with_status(502)),
    ),
)
