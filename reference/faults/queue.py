"""The faults that test_queue.py must notice."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ..hooks import Handler, Hooks, Wrapper
from ..refusals import queue_full
from ..slots import QueueFull, Slots
from . import departures, other_gateways, queue_figures
from .answers import APP, DETAIL_200, change_json, change_status, error_500, instead
from .conditions import only
from .fault import Fault, Install
from .gateway_parts import GgufGateway
from .planting import all_of, around, around_with_gateway, late, on_events, on_gateway
from .streams import cut

QUEUE = "test_queue.py"
SLOW_REFUSAL_S = 2.0
SLOW_PROBE_S = 1.4
KEPT_LONG_S = 10.0
# The deployment of the guide, with answers of 0.4 s, or longer ones where a step is repeated.
GUIDE = {
    "max_concurrent_requests": 1,
    "max_queue_size": 2,
    "itl_ms": 2,
    "output_tokens": 1600,
}
LONGER_ANSWERS = {**GUIDE, "itl_ms": 10}  # so that slow probes fit into one answer
ANSWERS_OF_1_S = {**GUIDE, "itl_ms": 5}  # so that a client can leave in the middle of one
TWO_AT_ONCE = {**ANSWERS_OF_1_S, "max_concurrent_requests": 2}
UNLIMITED = {**GUIDE, "max_queue_size": 0}
# The checks that let clients leave; the other ones look at a burst of requests.
LEAVING = ("left_streaming", "left_queued", "order")


def _burst(name: str, breaks: str, check: str, install: Install, **more: Any) -> Fault:
    """A row for a check of the burst. What comes after the burst is skipped."""
    given = {"options": GUIDE, "arguments": ("--skip", "retry", *LEAVING), **more}
    return Fault(name, breaks, QUEUE, check, install, **given)


def _leave(name: str, breaks: str, check: str, install: Install, **more: Any) -> Fault:
    """A row for a check in which clients leave."""
    given = {"options": ANSWERS_OF_1_S, **more}
    return _burst(name, breaks, check, install, arguments=("--only", *LEAVING), **given)


# --- refusals


def refusal(change: Callable[[web.Response], object]) -> Install:
    """Change the refusals of the full queue."""
    return change_status(503, change)


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


class PlaceKeptWithoutQueue(PlaceKept, other_gateways.NoQueue):
    """The same, where what is not served at once is refused."""


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


class WaitingUntilServed(Slots):
    """A client that leaves the queue counts as waiting until its turn has come, as with HAProxy
    without `option abortonclose`."""

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._release()  # it was handed the place at the moment when it left
            raise


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
    mark_waiting(hooks)
    only(lambda _: _waited.get(), instead("backend", status=502))(hooks)


def queued_dropped(hooks: Hooks) -> None:
    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        if _waited.get() and request.transport is not None:
            request.transport.abort()
        return await handler(request)

    mark_waiting(hooks)
    hooks.around["backend"].append(wrapper)


def queued_cut(hooks: Hooks) -> None:
    mark_waiting(hooks)
    only(lambda _: _waited.get(), on_events(cut))(hooks)


# --- what the gateway reports about itself


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


answer_slowly = late(SLOW_PROBE_S)


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
        "phantoms-waiting",
        "/health says that 3 requests wait, though nobody is there",
        "idle",
        queue_figures.in_queue(waiting=3),
    ),
    _burst(
        "phantoms-beside-a-free-place",
        "/health says that 1 is served and 3 wait where 2 can be served, though nobody is there",
        "idle",
        queue_figures.in_queue(active=1, waiting=3),
        options=TWO_AT_ONCE,
    ),
    _burst(
        "health-active-too-many",
        "/health says that 2 are served where 1 can be",
        "idle",
        queue_figures.in_queue(active=2),
    ),
    _burst(
        "health-active-negative",
        "/health says that -1 requests are served when nobody is there",
        "idle",
        queue_figures.in_queue(active=-1),
    ),
    _burst(
        "health-active-below-0",
        "each request that ends is taken off `active` twice",
        "health",
        queue_figures.active_below_zero,
    ),
    _burst(
        "health-active-0",
        "/health says that nobody is served",
        "health",
        change_json("health", queue_figures.active_never_counts),
    ),
    _burst(
        "health-active-stuck",
        "the figure `active` of /health never falls",
        "health",
        queue_figures.keeps_highest("health", "queue", "active"),
    ),
    _burst(
        "health-active-forgotten",
        "/health says at first who is served, and then 0, while others wait",
        "health",
        queue_figures.active_forgets_the_first,
        options=LONGER_ANSWERS,
    ),
    _burst(
        "metrics-total-too-small",
        "requests_total of /metrics does not count what was served",
        "metrics",
        change_json("metrics", queue_figures.total_counts_only_errors),
    ),
    _burst(
        "metrics-active-stuck",
        "requests_active of /metrics never falls",
        "metrics",
        queue_figures.keeps_highest("metrics", "gateway", "requests_active"),
    ),
    _burst(
        "metrics-active-0",
        "requests_active of /metrics is 0, whatever /health says",
        "metrics",
        change_json("metrics", queue_figures.active_metric_is_0),
        options=LONGER_ANSWERS,
    ),
    _burst(
        "metrics-of-two",
        "every second answer of /metrics is that of another gateway",
        "metrics",
        queue_figures.requests_of_two_gateways,
    ),
    _burst(
        "health-other-rejections",
        "/health and /metrics give different numbers of refusals",
        "metrics",
        change_json("health", queue_figures.other_rejections_in_health),
    ),
    _burst(
        "metrics-depth-of-nobody",
        "queue_depth of /metrics is 3 while a request is served and none waits",
        "metrics",
        change_json("metrics", queue_figures.depth_counts_the_served),
        options=LONGER_ANSWERS,
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
        "/health takes 1.4 s while a request waits",
        "probes",
        when_waiting("health", answer_slowly),
        status="WARN",
        options=LONGER_ANSWERS,
    ),
    _burst(
        "queue-ping-app",
        "the guide's gateway answers /ping with the page of a web application",
        "probes",
        instead("ping", **APP),
        status="WARN",
    ),
    Fault(
        "queue-refused-in-200",
        "a stream is a 200 whose event stream is the JSON of a framework's error",
        QUEUE,
        "single",
        DETAIL_200,
        options=GUIDE,
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
        "a client that leaves in its stream keeps its place, but the figures say that it is free",
        "left_streaming",
        slots(PlaceLostUnseen),
    ),
    Fault(
        "left-place-kept-no-queue",
        "a client that leaves in its stream keeps its place, where no figure tells",
        QUEUE,
        "left_streaming",
        all_of(other_gateways.OF_LLAMA, slots(PlaceKeptWithoutQueue)),
        options=ANSWERS_OF_1_S,
        arguments=("--max-concurrent", "1", "--max-queue", "none", "--only", *LEAVING),
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
        "a client that leaves the queue keeps its place there, but the figures say that it is free",
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
    _burst(
        "left-queue-until-served",
        "a client that leaves the queue keeps its place until its turn; no figure tells it",
        "left_queued",
        all_of(other_gateways.OF_LLAMA, slots(WaitingUntilServed)),
        status="WARN",
        options={**LONGER_ANSWERS, "max_queue_size": 2},
        arguments=("--max-concurrent", "1", "--max-queue", "2", "--only", *LEAVING),
    ),
    _leave(
        "left-queue-ends-served",
        "when a client leaves the queue, the answer that is being sent is cut",
        "left_queued",
        departures.when_leaving(False, departures.cut, None),
    ),
    _leave(
        "left-queue-ends-served-cleanly",
        "when a client leaves the queue, the answer that is being sent ends as if it were whole",
        "left_queued",
        departures.end_served_cleanly,
    ),
    _leave(
        "left-queue-drops-waiting",
        "when a client leaves the queue, the others that wait lose their connection",
        "left_queued",
        departures.when_leaving(False, None, departures.cut),
    ),
    _leave(
        "left-queue-refuses-waiting",
        "when a client leaves the queue, the others that wait are refused",
        "left_queued",
        departures.when_leaving(False, None, departures.refuse),
    ),
    _leave(
        "left-queue-mixes-served",
        "when a client leaves the queue, two answers go on as each other's",
        "left_queued",
        departures.mix_served,
        options=TWO_AT_ONCE,
    ),
    _leave(
        "left-queue-frees-place",
        "a client that leaves the queue frees a place, though it held none",
        "left_queued",
        slots(departures.QueueLeaverFreesPlace),
    ),
    _leave(
        "left-queue-ghost",
        "a client that left the queue is served all the same at its turn, unseen",
        "left_queued",
        slots(departures.GhostServed),
    ),
    _leave(
        "left-queue-ghost-q1",
        "a client that left the queue is served all the same, where only one may wait",
        "left_queued",
        slots(departures.GhostServed),
        options={**ANSWERS_OF_1_S, "max_queue_size": 1},
    ),
    _leave(
        "left-stream-ends-other",
        "when a client leaves during its stream, the other streams are cut",
        "left_streaming",
        departures.when_leaving(True, departures.cut, None),
        options=TWO_AT_ONCE,
    ),
    _leave(
        "left-stream-refuses-waiting",
        "when a client leaves during its stream, those that wait are refused",
        "left_streaming",
        departures.when_leaving(True, None, departures.refuse),
    ),
    _leave(
        "left-stream-drops-waiting",
        "when a client leaves during its stream, those that wait lose their connection",
        "left_streaming",
        departures.when_leaving(True, None, departures.cut),
    ),
    _leave(
        "left-stream-frees-two",
        "a client that leaves during its stream frees two places",
        "left_streaming",
        slots(departures.ServedLeaverFreesTwo),
    ),
    _leave(
        "last-in-first-out",
        "the request that came last into the queue is served first",
        "order",
        slots(LastInFirstOut),
        status="WARN",
    ),
)
