"""Faults of a gateway that handles a client's departure badly: the clients that stay suffer."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from ..engine_client import events
from ..hooks import Handler, Hooks
from ..refusals import queue_full
from ..slots import Slots
from .fault import Install

ID = re.compile(rb'"id":"([^"]+)"')
DONE = b"data: [DONE]\n\n"
GHOST_S = 1.0  # what an answer takes where clients leave

Harm = Callable[[web.BaseRequest], None]


def when_leaving(was_served: bool, harm_served: Harm | None, harm_waiting: Harm | None) -> Install:
    """When a client leaves that is served (or that waits), harm each that is served or waits."""

    def install(hooks: Hooks) -> None:
        present: list[web.BaseRequest] = []

        async def all_of_it(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
            if request.method != "POST":
                return await handler(request)
            request["task"] = asyncio.current_task()
            present.append(request)
            try:
                return await handler(request)
            except asyncio.CancelledError:
                if request.get("refused"):
                    return queue_full().response()
                if bool(request.get("served")) == was_served:
                    for other in (each for each in present if each is not request):
                        harm = harm_served if other.get("served") else harm_waiting
                        if harm:
                            harm(other)
                raise
            finally:
                present.remove(request)

        async def served(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
            request["served"] = True
            return await handler(request)

        hooks.around["inference"].append(all_of_it)
        hooks.around["backend"].append(served)

    return install


def cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def refuse(request: web.BaseRequest) -> None:
    request["refused"] = True
    request["task"].cancel()


class Leavings:
    """Counts the clients that left the queue, for stream filters, which see no request."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, _: web.BaseRequest) -> None:
        self.count += 1


def end_served_cleanly(hooks: Hooks) -> None:
    """When a client leaves the queue, the answers that are being sent end as if they were whole."""
    leavings = Leavings()

    async def change(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        before = leavings.count
        async for chunk in chunks:
            if leavings.count != before and b'"finish_reason":null' in chunk:
                yield chunk.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
                yield DONE
                return
            yield chunk

    when_leaving(False, leavings.note, None)(hooks)
    hooks.stream_filters.append(lambda chunks: change(events(chunks)))


def mix_served(hooks: Hooks) -> None:
    """When a client leaves the queue, two answers that are being sent go on as each other's."""
    leavings, ids = Leavings(), list[bytes]()

    async def change(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        before, own = leavings.count, b""
        try:
            async for chunk in chunks:
                found = ID.search(chunk)
                if found and not own:
                    own = found[1]
                    ids.append(own)
                others = [each for each in ids if each != own]
                is_mixed = leavings.count != before and others
                yield chunk.replace(own, others[0]) if is_mixed else chunk
        finally:
            ids.remove(own)

    when_leaving(False, leavings.note, None)(hooks)
    hooks.stream_filters.append(lambda chunks: change(events(chunks)))


class QueueLeaverFreesPlace(Slots):
    """A client that leaves the queue frees a place, though it held none."""

    async def _wait(self) -> None:
        try:
            await super()._wait()
        except asyncio.CancelledError:
            if self._queue:
                self._release()
            raise


class ServedLeaverFreesTwo(Slots):
    """A client that leaves while it is served frees two places."""

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        async with super().place():
            try:
                yield
            except asyncio.CancelledError:
                if self._queue:
                    self._release()
                raise


class GhostServed(Slots):
    """A client that leaves the queue is not counted any more, but gets the place at its turn."""

    ghosts: set[asyncio.Future[None]]

    def __init__(self, max_active: int, max_waiting: int) -> None:
        super().__init__(max_active, max_waiting)
        self.ghosts = set()

    @property
    def waiting(self) -> int:
        return sum(1 for turn in self._queue if turn not in self.ghosts)

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await asyncio.shield(turn)
        except asyncio.CancelledError:
            self.ghosts.add(turn)
            turn.add_done_callback(self._serve_ghost)
            raise

    def _serve_ghost(self, turn: asyncio.Future[None]) -> None:
        self.ghosts.discard(turn)
        asyncio.get_running_loop().call_later(GHOST_S, self._release)
