"""Deployments that get slower while a level lasts, and sound ones whose times vary all the same."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random

from aiohttp import web

from ..hooks import Handler
from .conditions import only, streams
from .fault import Fault, Install, SoundVariant
from .planting import around, on_events
from .streams import Events, content, payload

BENCHMARK = "benchmark.py"
# Of one request after the other. Long enough that a wait of the test's machine is a small part.
TIMES = {"ttft_ms": 60, "itl_ms": 3}
LATER_S = 0.003  # each request than the one before
SLOWER_S = 0.0002  # each token, from one request to the next
REQUESTS = 42
RUN = REQUESTS + 1  # streams of a run, with its warm-up: the next run begins as fast as this one
RAMP, RAMP_S = 12, 0.010  # so many requests are slow at first, by so much each
NOISE = 0.25  # sigma of the logarithm of what is added
ADDED_S = 0.05


def growing(later_s: float) -> Install:
    """Each stream waits longer than the one before, as behind a queue or a leak that grows."""
    numbers = itertools.count()

    async def wait(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(later_s * (next(numbers) % RUN))
        return await handler(request)

    return only(streams, around("backend", wait))


def slowing(slower_s: float) -> Install:
    """The tokens of each stream come more slowly than those of the one before, as from a processor
    that gets hot."""
    numbers = itertools.count()

    async def slowly(stream: Events) -> Events:
        pause_s, shown = TIMES["itl_ms"] / 1e3 + slower_s * (next(numbers) % RUN), 0
        async for event in stream:
            is_text = bool(content(payload(event)))
            if is_text and shown:
                await asyncio.sleep(pause_s)
            shown += is_text
            yield event

    return on_events(slowly)


def ramp() -> Install:
    """The first streams are slow, each a little less than the one before."""
    numbers = itertools.count()

    async def wait(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(RAMP_S * max(0, RAMP - next(numbers)))
        return await handler(request)

    return only(streams, around("backend", wait))


def varying() -> Install:
    """Each stream waits for a time that says nothing about the next one."""
    chance = random.Random(7)

    async def wait(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(ADDED_S * chance.lognormvariate(0, NOISE))
        return await handler(request)

    return only(streams, around("backend", wait))


# 25 values are the least that can be told; some may be lost to waits of the machine.
ENOUGH = ("--inference-only", "--requests", str(REQUESTS), "--max-tokens", "16", "--timeout", "10")
_steady = functools.partial(
    Fault,
    script=BENCHMARK,
    check="steady",
    status="WARN",
    options=TIMES,
    arguments=(*ENOUGH, "--only", "steady"),
)

ROWS: tuple[Fault, ...] = (
    _steady(
        "ttft-grows",
        "each stream waits longer for its first token than the one before",
        install=growing(LATER_S),
        says="TTFT grew",
    ),
    _steady(
        "decoding-slows",
        "the tokens of each stream come more slowly than those of the one before",
        install=slowing(SLOWER_S),
        says="decode rate fell",
    ),
)

# The checks left out are about this machine as well, which may be busy with other tests.
STRICTLY = (*ENOUGH, "--concurrency", "1", "--skip", "client", "pacing", "--strict")

SOUND: tuple[SoundVariant, ...] = (
    SoundVariant(
        "slow-start",
        "the first streams of a run are slow",
        (BENCHMARK,),
        ramp(),
        options=TIMES,
        arguments=STRICTLY,
    ),
    SoundVariant(
        "varying-times",
        "the time to the first token varies by a quarter",
        (BENCHMARK,),
        varying(),
        options=TIMES,
        arguments=STRICTLY,
    ),
)
