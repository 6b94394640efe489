"""The faults that test_queue.py must notice."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ..engine_client import events
from ..hooks import Handler, Hooks, Wrapper
from ..refusals import queue_full
from ..slots import QueueFull, Slots
from .answers import error_500
from .fault import Fault, Install
from .gateway_parts import GgufGateway
from .planting import around, around_with_gateway, on_gateway
from .streams import cut

QUEUE = "test_queue.py"
SLOW_REFUSAL_S = 2.0
SLOW_PROBE_S = 0.8
KEPT_LONG_S = 10.0
# The deployment of the guide, with answers of 0.4 s.
GUIDE = {"max_concurrent_requests": 1, "max_queue_size": 2, "itl_ms": 2}
LONGER_ANSWERS = {**GUIDE, "itl_ms": 10}  # so that slow probes fit into one answer
UNLIMITED = {**GUIDE, "max_queue_size": 0}
# The checks that let clients leave; the other ones look at a burst of requests.
LEAVING = ("left_streaming", "left_queued", "order")


def _burst(name: str, breaks: str, check: str, install: Install, **more: Any) -> Fault:
    """A row for a check of the burst. What comes after the burst is skipped."""
    given = {"options": GUIDE, "arguments": ("--skip", "retry", *LEAVING), **more}
    return Fault(name, breaks, QUEUE, check, install, **given)


def _leave(name: str, breaks: str, check: str, install: Install, **more: Any) -> Fault:
    """A row for a check in which clients leave."""
    return _burst(name, breaks, check, install, arguments=("--only", *LEAVING), **more)


# --- refusals


def refusal(change: Callable[[web.Response], None]) -> Install:
    """Change the refusals of the full queue."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if response.status == 503 and isinstance(response, web.Response):
            change(response)
        return response

    return around("all", wrapper)


def refusal_status(code: int) -> Install:
    return refusal(lambda response: response.set_status(code))


def refusal_retry_after(value: str) -> Install:
    return refusal(lambda response: response.headers.update({"Retry-After": value}))


def remove_retry_after(response: web.Response) -> None:
    del response.headers["Retry-After"]


def make_plain_text(response: web.Response) -> None:
    response.text = "Server busy, try again later\n"
    response.content_type = "text/plain"


async def refuse_slowly(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    response = await handler(request)
    if response.status == 503:
        await asyncio.sleep(SLOW_REFUSAL_S)
    return response


def refuse_for_ever(hooks: Hooks) -> None:
    """From one second after the first refusal on, every request is refused."""
    first_refusal_s: float | None = None

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal first_refusal_s
        now_s = time.monotonic()
        if first_refusal_s is not None and now_s - first_refusal_s > 1 and request.method == "POST":
            return queue_full().response()
        response = await handler(request)
        if response.status == 503 and first_refusal_s is None:
            first_refusal_s = time.monotonic()
        return response

    hooks.around["all"].append(wrapper)


# --- other queues


def slots(kind: type[Slots]) -> Install:
    """The gateway uses slots of this kind."""

    def change(gateway: GgufGateway) -> None:
        other = kind(gateway.slots.max_active, gateway.slots.max_waiting)
        gateway.slots = gateway.counters.slots = other

    return on_gateway(change)


class OtherLimits(Slots):
    """Its limits are not the announced ones."""

    more_active = 0
    more_waiting = 0

    async def _acquire(self) -> None:
        if self.active < self.max_active + self.more_active:
            self.active += 1
        elif self.waiting >= (self.max_waiting or 1) + self.more_waiting:
            self.rejections += 1
            raise QueueFull
        else:
            await self._wait()


class Unbounded(OtherLimits):
    more_waiting = 1000


class OneWaitingLess(OtherLimits):
    more_waiting = -1


class OneMoreAtOnce(OtherLimits):
    more_active = 1
    more_waiting = -1  # so that the number of refusals is right


class UncountedRejections(Slots):
    @property
    def rejections(self) -> int:
        return 0

    @rejections.setter
    def rejections(self, value: int) -> None:
        pass


class UncountedWaits(Slots):
    @property
    def waited_s(self) -> float:
        return 0.0

    @waited_s.setter
    def waited_s(self, value: float) -> None:
        pass


class WaitsInMilliseconds(Slots):
    """The sum of the waits is not in seconds, as its name says, but in milliseconds."""

    _sum_ms = 0.0

    @property
    def waited_s(self) -> float:
        return self._sum_ms

    @waited_s.setter
    def waited_s(self, value: float) -> None:
        self._sum_ms += 1e3 * (value - self._sum_ms)


class LastInFirstOut(Slots):
    def _release(self) -> None:
        if self._queue:
            self._queue.rotate(1)
        super()._release()


class PlaceKept(Slots):
    """A client that leaves while it is served keeps its place for `kept_s`, or for ever (None)."""

    kept_s: float | None = None

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        await self._acquire()
        try:
            yield
        except asyncio.CancelledError:
            if self.kept_s is not None:
                asyncio.get_running_loop().call_later(self.kept_s, self._release)
            raise
        except BaseException:
            self._release()
            raise
        self._release()


class PlaceKeptLong(PlaceKept):
    kept_s = KEPT_LONG_S


class WaitingKept(Slots):
    """A client that leaves the queue still counts as waiting, for `kept_s` or for ever (None)."""

    kept_s: float | None = None
    left = 0

    @property
    def waiting(self) -> int:
        return len(self._queue) + self.left

    async def _wait(self) -> None:
        try:
            await super()._wait()
        except asyncio.CancelledError:
            self.left += 1
            if self.kept_s is not None:
                asyncio.get_running_loop().call_later(self.kept_s, self._forget)
            raise

    def _forget(self) -> None:
        self.left -= 1


class WaitingKeptLong(WaitingKept):
    kept_s = KEPT_LONG_S


class PlaceLostUnseen(PlaceKept):
    """A client that leaves keeps its place, but the figures say that the place is free."""

    lost = 0

    async def _acquire(self) -> None:
        if self.active + self.lost < self.max_active:
            self.active += 1
        else:
            await self._wait()

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        await self._acquire()
        try:
            yield
        except asyncio.CancelledError:
            self.lost += 1
            self.active -= 1
            raise
        self._release()


class WaitingLostUnseen(Slots):
    """A client that leaves while it waits makes the queue shorter, but no figure shows it."""

    lost = 0

    async def _acquire(self) -> None:
        if self.active >= self.max_active and self.waiting + self.lost >= self.max_waiting:
            self.rejections += 1
            raise QueueFull
        await super()._acquire()

    async def _wait(self) -> None:
        try:
            await super()._wait()
        except asyncio.CancelledError:
            self.lost += 1
            raise


# --- requests that waited in the queue

_waited: contextvars.ContextVar[bool] = contextvars.ContextVar("waited", default=False)


def mark_waiting(hooks: Hooks) -> None:
    """Set `_waited` for each request: whether it had to wait in the queue."""

    def change(gateway: GgufGateway) -> None:
        async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
            _waited.set(gateway.slots.active >= gateway.slots.max_active)
            return await handler(request)

        hooks.around["inference"].append(wrapper)

    hooks.setup.append(change)


def queued_502(hooks: Hooks) -> None:
    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=502) if _waited.get() else await handler(request)

    mark_waiting(hooks)
    hooks.around["backend"].append(wrapper)


def queued_dropped(hooks: Hooks) -> None:
    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        if _waited.get() and request.transport is not None:
            request.transport.abort()
        return await handler(request)

    mark_waiting(hooks)
    hooks.around["backend"].append(wrapper)


def queued_cut(hooks: Hooks) -> None:
    mark_waiting(hooks)
    hooks.stream_filters.append(lambda chunks: cut(events(chunks)) if _waited.get() else chunks)


# --- what the gateway reports about itself


def change_json(where: str, change: Callable[[dict[str, Any]], object]) -> Install:
    """Change the figures in a JSON answer."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response) and response.content_type == "application/json":
            content = json.loads(response.text or "{}")
            change(content)
            response.text = json.dumps(content)
        return response

    return around(where, wrapper)


def change_text(pattern: str, replacement: str) -> Install:
    """Change lines in the Prometheus form of /metrics."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response) and response.content_type == "text/plain":
            text = (response.body or b"").decode()  # type: ignore[union-attr, unused-ignore]
            response.body = re.sub(pattern, replacement, text, flags=re.MULTILINE).encode()
        return response

    return around("metrics", wrapper)


async def only_json(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return await handler(request.clone(headers={"Accept": "application/json"}))


def stuck_depth(hooks: Hooks) -> None:
    """queue_depth keeps its highest value."""

    def change(gateway: GgufGateway) -> None:
        original, deepest = gateway.counters.as_dict, 0

        def as_dict() -> dict[str, float]:
            nonlocal deepest
            figures = original()
            deepest = max(deepest, int(figures["queue_depth"]))
            return {**figures, "queue_depth": deepest}

        gateway.counters.as_dict = as_dict  # type: ignore[method-assign]

    hooks.setup.append(change)


def stuck_waiting(hooks: Hooks) -> None:
    """/health's `waiting` keeps its highest value."""
    deepest = 0

    def change(content: dict[str, Any]) -> None:
        nonlocal deepest
        deepest = max(deepest, content["queue"]["waiting"])
        content["queue"]["waiting"] = deepest

    change_json("health", change)(hooks)


def when_waiting(where: str, wrapper: Wrapper) -> Install:
    """Use the wrapper while a request waits in the queue."""

    async def either(
        gateway: GgufGateway, handler: Handler, request: web.BaseRequest
    ) -> web.StreamResponse:
        if gateway.slots.waiting:
            return await wrapper(handler, request)
        return await handler(request)

    return around_with_gateway(where, either)


async def answer_slowly(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(SLOW_PROBE_S)
    return await handler(request)


async def answer_500(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=500)


def remove_depth(content: dict[str, Any]) -> None:
    del content["gateway"]["queue_depth"]


ROWS: tuple[Fault, ...] = (
    Fault(
        "health-no-queue",
        "/health does not report the limits",
        QUEUE,
        "limits",
        change_json("health", lambda content: content.pop("queue")),
        options=GUIDE,
    ),
    Fault(
        "single-500",
        "every chat completion is a 500",
        QUEUE,
        "single",
        error_500("backend"),
        options=GUIDE,
    ),
    _burst(
        "queue-unbounded",
        "the queue takes more requests than the announced bound",
        "refusals",
        slots(Unbounded),
    ),
    _burst(
        "queue-one-less",
        "the queue takes one request less than announced",
        "refusals",
        slots(OneWaitingLess),
    ),
    _burst(
        "queue-429", "a full queue refuses with 429 instead of 503", "refusals", refusal_status(429)
    ),
    _burst(
        "queue-500", "a full queue refuses with 500 instead of 503", "refusals", refusal_status(500)
    ),
    Fault(
        "queue-not-unlimited",
        "an unlimited queue is announced, but it refuses requests",
        QUEUE,
        "refusals",
        slots(OtherLimits),
        options=UNLIMITED,
        arguments=("--extra", "3", "--skip", "retry", *LEAVING),
    ),
    _burst(
        "no-retry-after", "a refusal has no Retry-After", "retry_after", refusal(remove_retry_after)
    ),
    _burst(
        "retry-after-30",
        "the Retry-After of a refusal is 30 instead of 5",
        "retry_after",
        refusal_retry_after("30"),
    ),
    _burst(
        "retry-after-5s",
        "the Retry-After of a refusal is 5s, which is not a number",
        "retry_after",
        refusal_retry_after("5s"),
    ),
    _burst(
        "refusal-plain-text",
        "a refusal is plain text instead of JSON",
        "error_body",
        refusal(make_plain_text),
    ),
    _burst(
        "refusal-called-text",
        "the JSON of a refusal has the content type text/plain",
        "error_body",
        refusal(lambda response: setattr(response, "content_type", "text/plain")),
        status="WARN",
    ),
    _burst("refusal-slow", "a refusal takes 2 s", "refused_fast", around("all", refuse_slowly)),
    _burst("queued-502", "requests that waited in the queue get a 502", "served", queued_502),
    _burst(
        "queued-dropped",
        "the connection of a request that waited is dropped",
        "served",
        queued_dropped,
    ),
    _burst("queued-cut", "the answer to a request that waited ends early", "served", queued_cut),
    _burst(
        "one-more-at-once",
        "one request more than announced is served at once",
        "concurrency",
        slots(OneMoreAtOnce),
    ),
    _burst(
        "health-waiting-0",
        "/health says that no request waits",
        "health",
        change_json("health", lambda content: content["queue"].update(waiting=0)),
    ),
    _burst(
        "health-waiting-stuck",
        "the figure `waiting` of /health never falls",
        "health",
        stuck_waiting,
    ),
    _burst(
        "metrics-no-depth",
        "the JSON form of /metrics lacks queue_depth",
        "metrics",
        change_json("metrics", remove_depth),
    ),
    _burst(
        "metrics-only-json",
        "/metrics has no Prometheus form",
        "metrics",
        around("metrics", only_json),
    ),
    _burst(
        "metrics-no-rejections",
        "the metrics do not count refusals",
        "metrics",
        slots(UncountedRejections),
    ),
    _burst("metrics-no-waits", "the metrics do not count waits", "metrics", slots(UncountedWaits)),
    _burst(
        "metrics-waits-ms",
        "the metrics count waits in milliseconds",
        "metrics",
        slots(WaitsInMilliseconds),
    ),
    _burst(
        "metrics-disagree",
        "the two forms of /metrics have different figures",
        "metrics",
        change_text(r"^(gateway_queue_rejections) .*", r"\1 77"),
    ),
    _burst(
        "metrics-depth-stuck",
        "the figure queue_depth of /metrics never falls",
        "metrics",
        stuck_depth,
    ),
    _burst(
        "health-slow-when-full",
        "/health takes 0.8 s while a request waits",
        "probes",
        when_waiting("health", answer_slowly),
        status="WARN",
        options=LONGER_ANSWERS,
    ),
    _burst(
        "ping-fails-when-full",
        "/ping is a 500 while a request waits",
        "probes",
        when_waiting("ping", answer_500),
        status="WARN",
    ),
    Fault(
        "refused-for-good",
        "after the queue was full once, no request is served",
        QUEUE,
        "retry",
        refuse_for_ever,
        options=GUIDE,
        arguments=("--skip", *LEAVING),
    ),
    _leave(
        "left-place-kept",
        "a client that leaves during its stream keeps its place",
        "left_streaming",
        slots(PlaceKept),
    ),
    _leave(
        "left-place-lost-unseen",
        "the same as left-place-kept, but the figures say that the place is free",
        "left_streaming",
        slots(PlaceLostUnseen),
    ),
    _leave(
        "left-place-late",
        "a client that leaves during its stream keeps its place for 10 s",
        "left_streaming",
        slots(PlaceKeptLong),
        status="WARN",
    ),
    _leave(
        "left-queue-kept",
        "a client that leaves the queue keeps its place there",
        "left_queued",
        slots(WaitingKept),
    ),
    _leave(
        "left-queue-lost-unseen",
        "the same as left-queue-kept, but the figures say that the place is free",
        "left_queued",
        slots(WaitingLostUnseen),
    ),
    _leave(
        "left-queue-late",
        "a client that leaves the queue keeps its place there for 10 s",
        "left_queued",
        slots(WaitingKeptLong),
        status="WARN",
    ),
    _leave(
        "last-in-first-out",
        "the request that came last into the queue is served first",
        "order",
        slots(LastInFirstOut),
        status="WARN",
    ),
)
