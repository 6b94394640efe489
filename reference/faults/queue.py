"""What test_queue.py must notice."""

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

from ..hooks import Answer, Hooks
from ..slots import QueueFull, Slots
from .parts import Fault, Install, around, busy, cut, error_500, events

QUEUE = "test_queue.py"
SLOW_REFUSAL_S = 2.0
SLOW_PROBE_S = 0.8
LATE_S = 10.0
# the guide's deployment, with answers of 0.4 s
GUIDE = {"max_concurrent_requests": 1, "max_queue_size": 2, "itl_ms": 2}
LONGER = {**GUIDE, "itl_ms": 10}  # for probes that are slow themselves
UNLIMITED = {**GUIDE, "max_queue_size": 0}
LEAVING = ("left_streaming", "left_queued", "order")
BRIEFLY = ("--skip", "retry", *LEAVING)  # what the burst shows needs nothing after it
LEAVE = ("--only", *LEAVING)


def _burst(name: str, breaks: str, check: str, install: Install, **more: Any) -> Fault:
    given = {"options": GUIDE, "arguments": BRIEFLY, **more}
    return Fault(name, breaks, QUEUE, check, install, **given)


def _leave(name: str, breaks: str, check: str, install: Install, **more: Any) -> Fault:
    return _burst(name, breaks, check, install, arguments=LEAVE, **more)


# --- refusals


def refusal(change: Callable[[web.Response], None]) -> Install:
    """Another refusal than the promised one."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(request)
        if response.status == 503 and isinstance(response, web.Response):
            change(response)
        return response

    return around("all", wrapper)


def status(code: int) -> Install:
    return refusal(lambda response: response.set_status(code))


def retry_after(value: str) -> Install:
    return refusal(lambda response: response.headers.update({"Retry-After": value}))


def no_retry_after(response: web.Response) -> None:
    del response.headers["Retry-After"]


def plain_text(response: web.Response) -> None:
    response.text = "Server busy, try again later\n"
    response.content_type = "text/plain"


async def refuse_slowly(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    response = await answer(request)
    if response.status == 503:
        await asyncio.sleep(SLOW_REFUSAL_S)
    return response


def refuse_again(hooks: Hooks) -> None:
    """Who was refused once is refused for ever, and everybody else too."""
    refused_s: list[float] = []
    refuse = Hooks()
    busy("again")(refuse)

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        if refused_s and time.monotonic() - refused_s[0] > 1 and request.method == "POST":
            return await refuse.wrap("again", answer)(request)
        response = await answer(request)
        if response.status == 503:
            refused_s.append(time.monotonic())
        return response

    hooks.around["all"].append(wrapper)


# --- another queue


def slots(kind: type[Slots]) -> Install:
    """Requests get their places from these."""

    def change(gateway: Any) -> None:
        other = kind(gateway.slots.max_active, gateway.slots.max_waiting)
        gateway.slots = gateway.counters.slots = other

    return lambda hooks: hooks.setup.append(change)


class Shifted(Slots):
    """Limits other than the announced ones."""

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


class Unbounded(Shifted):
    more_waiting = 1000


class OneLess(Shifted):
    more_waiting = -1


class OneMoreAtOnce(Shifted):
    more_active = 1
    more_waiting = -1  # so that as many are refused as there should be


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


class Milliseconds(Slots):
    """The sum of the waits is in another unit than its name says."""

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


class KeptPlace(Slots):
    """Who hangs up while being served keeps the place, for so long or for good."""

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


class PlaceKeptLong(KeptPlace):
    kept_s = LATE_S


class KeptInQueue(Slots):
    """Who hangs up while waiting is counted among those who wait, for so long or for good."""

    kept_s: float | None = None
    ghosts = 0

    @property
    def waiting(self) -> int:
        return len(self._queue) + self.ghosts

    async def _wait(self) -> None:
        try:
            await super()._wait()
        except asyncio.CancelledError:
            self.ghosts += 1
            if self.kept_s is not None:
                asyncio.get_running_loop().call_later(self.kept_s, self._forget)
            raise

    def _forget(self) -> None:
        self.ghosts -= 1


class KeptInQueueLong(KeptInQueue):
    kept_s = LATE_S


class LostUnseen(KeptPlace):
    """The place is lost, and the figures say that nobody is there."""

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


class LostInQueueUnseen(Slots):
    """Who hangs up while waiting makes the queue shorter, and no figure tells."""

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


# --- what becomes of those who waited

_waited: contextvars.ContextVar[bool] = contextvars.ContextVar("waited", default=False)


def mark_waiting(hooks: Hooks) -> None:
    """Let `_waited` tell, within a request, whether it had to wait."""

    def change(gateway: Any) -> None:
        async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
            _waited.set(gateway.slots.active >= gateway.slots.max_active)
            return await answer(request)

        hooks.around["inference"].append(wrapper)

    hooks.setup.append(change)


def queued_502(hooks: Hooks) -> None:
    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=502) if _waited.get() else await answer(request)

    mark_waiting(hooks)
    hooks.around["backend"].append(wrapper)


def queued_dropped(hooks: Hooks) -> None:
    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        if _waited.get() and request.transport is not None:
            request.transport.abort()
        return await answer(request)

    mark_waiting(hooks)
    hooks.around["backend"].append(wrapper)


def queued_cut(hooks: Hooks) -> None:
    mark_waiting(hooks)
    hooks.stream.append(lambda chunks: cut(events(chunks)) if _waited.get() else chunks)


# --- what the gateway says of itself


def in_json(where: str, change: Callable[[dict[str, Any]], object]) -> Install:
    """Other figures in a JSON answer."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(request)
        if isinstance(response, web.Response) and response.content_type == "application/json":
            content = json.loads(response.text or "{}")
            change(content)
            response.text = json.dumps(content)
        return response

    return around(where, wrapper)


def in_text(pattern: str, replacement: str) -> Install:
    """Other lines in the Prometheus form of /metrics."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(request)
        if isinstance(response, web.Response) and response.content_type == "text/plain":
            text = (response.body or b"").decode()  # type: ignore[union-attr, unused-ignore]
            response.body = re.sub(pattern, replacement, text, flags=re.MULTILINE).encode()
        return response

    return around("metrics", wrapper)


async def only_json(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    return await answer(request.clone(headers={"Accept": "application/json"}))


def stuck_depth(hooks: Hooks) -> None:
    """queue_depth keeps its highest value."""

    def change(gateway: Any) -> None:
        honest, deepest = gateway.counters.as_dict, 0

        def as_dict() -> dict[str, float]:
            nonlocal deepest
            figures: dict[str, float] = honest()
            deepest = max(deepest, int(figures["queue_depth"]))
            return {**figures, "queue_depth": deepest}

        gateway.counters.as_dict = as_dict

    hooks.setup.append(change)


def stuck_waiting(hooks: Hooks) -> None:
    """/health's `waiting` keeps its highest value."""
    deepest = 0

    def change(content: dict[str, Any]) -> None:
        nonlocal deepest
        deepest = max(deepest, content["queue"]["waiting"])
        content["queue"]["waiting"] = deepest

    in_json("health", change)(hooks)


def when_full(where: str, wrapper: Callable[[Answer, web.BaseRequest], Any]) -> Install:
    """The wrapper, while somebody waits in the queue."""

    def install(hooks: Hooks) -> None:
        def change(gateway: Any) -> None:
            async def either(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
                chosen: web.StreamResponse = await (
                    wrapper(answer, request) if gateway.slots.waiting else answer(request)
                )
                return chosen

            hooks.around[where].append(either)

        hooks.setup.append(change)

    return install


async def slowly(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(SLOW_PROBE_S)
    return await answer(request)


async def failing(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=500)


def without_depth(content: dict[str, Any]) -> None:
    del content["gateway"]["queue_depth"]


ROWS: tuple[Fault, ...] = (
    Fault(
        "health-no-queue",
        "/health does not tell the limits",
        QUEUE,
        "limits",
        in_json("health", lambda content: content.pop("queue")),
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
    _burst("queue-unbounded", "the bound is announced, not kept", "refusals", slots(Unbounded)),
    _burst("queue-one-less", "one more is refused than should be", "refusals", slots(OneLess)),
    _burst("queue-429", "429 on overflow, not 503", "refusals", status(429)),
    _burst("queue-500", "500 on overflow, not 503", "refusals", status(500)),
    Fault(
        "queue-not-unlimited",
        "an unlimited queue is announced, and refuses all the same",
        QUEUE,
        "refusals",
        slots(Shifted),
        options=UNLIMITED,
        arguments=("--extra", "3", *BRIEFLY),
    ),
    _burst(
        "no-retry-after", "a refusal without Retry-After", "retry_after", refusal(no_retry_after)
    ),
    _burst("retry-after-30", "Retry-After is 30, not 5", "retry_after", retry_after("30")),
    _burst(
        "retry-after-5s", "Retry-After is 5s, which is no number", "retry_after", retry_after("5s")
    ),
    _burst("refusal-plain-text", "a refusal in plain text", "error_body", refusal(plain_text)),
    _burst(
        "refusal-called-text",
        "JSON in a refusal, called text/plain",
        "error_body",
        refusal(lambda response: setattr(response, "content_type", "text/plain")),
        status="WARN",
    ),
    _burst("refusal-slow", "a refusal takes 2 s", "refused_fast", around("all", refuse_slowly)),
    _burst("queued-502", "who waited gets a 502", "served", queued_502),
    _burst("queued-dropped", "the connection of who waited is reset", "served", queued_dropped),
    _burst("queued-cut", "the answer of who waited ends early", "served", queued_cut),
    _burst("one-more-at-once", "C + 1 are served at once", "concurrency", slots(OneMoreAtOnce)),
    _burst(
        "health-waiting-0",
        "/health says that nobody waits",
        "health",
        in_json("health", lambda content: content["queue"].update(waiting=0)),
    ),
    _burst("health-waiting-stuck", "/health's waiting never falls", "health", stuck_waiting),
    _burst(
        "metrics-no-depth",
        "the JSON form of /metrics lacks queue_depth",
        "metrics",
        in_json("metrics", without_depth),
    ),
    _burst(
        "metrics-only-json",
        "/metrics has no Prometheus form",
        "metrics",
        around("metrics", only_json),
    ),
    _burst(
        "metrics-no-rejections", "refusals are not counted", "metrics", slots(UncountedRejections)
    ),
    _burst("metrics-no-waits", "waits are not counted", "metrics", slots(UncountedWaits)),
    _burst("metrics-waits-ms", "waits are counted in milliseconds", "metrics", slots(Milliseconds)),
    _burst(
        "metrics-disagree",
        "the two forms of /metrics differ",
        "metrics",
        in_text(r"^(gateway_queue_rejections) .*", r"\1 77"),
    ),
    _burst("metrics-depth-stuck", "queue_depth never falls", "metrics", stuck_depth),
    _burst(
        "health-slow-when-full",
        "/health takes 0.8 s while somebody waits",
        "probes",
        when_full("health", slowly),
        status="WARN",
        options=LONGER,
    ),
    _burst(
        "ping-fails-when-full",
        "/ping is a 500 while somebody waits",
        "probes",
        when_full("ping", failing),
        status="WARN",
    ),
    Fault(
        "refused-for-good",
        "after an overflow nobody is served",
        QUEUE,
        "retry",
        refuse_again,
        options=GUIDE,
        arguments=("--skip", *LEAVING),
    ),
    _leave(
        "left-place-kept",
        "who hangs up in mid-stream keeps the place",
        "left_streaming",
        slots(KeptPlace),
    ),
    _leave(
        "left-place-lost-unseen",
        "the same, and the figures deny it",
        "left_streaming",
        slots(LostUnseen),
    ),
    _leave(
        "left-place-late",
        "it is freed after 10 s",
        "left_streaming",
        slots(PlaceKeptLong),
        status="WARN",
    ),
    _leave(
        "left-queue-kept",
        "who hangs up in the queue is kept in it",
        "left_queued",
        slots(KeptInQueue),
    ),
    _leave(
        "left-queue-lost-unseen",
        "the same, and the figures deny it",
        "left_queued",
        slots(LostInQueueUnseen),
    ),
    _leave(
        "left-queue-late",
        "that place is freed after 10 s",
        "left_queued",
        slots(KeptInQueueLong),
        status="WARN",
    ),
    _leave(
        "last-in-first-out",
        "the last one in the queue is served first",
        "order",
        slots(LastInFirstOut),
        status="WARN",
    ),
)
