"""Places for requests: a fixed number at once, the others wait in a queue, first in first out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator


class QueueFull(Exception):
    """There is no free place and no room in the queue."""


class Slots:
    """A concurrency limit with a bounded queue (`max_waiting` 0: the queue has no bound)."""

    def __init__(self, max_active: int, max_waiting: int) -> None:
        self.max_active = max_active
        self.max_waiting = max_waiting
        self.active = 0
        self.rejections = 0
        self.waited_s = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place, after waiting for it in the queue. Raises QueueFull when the queue is full.

        A caller that is cancelled frees its place at once, whether it holds it or waits for it.
        """
        await self._acquire()
        try:
            yield
        finally:
            self._release()

    async def _acquire(self) -> None:
        if self.active < self.max_active:
            self.active += 1
            return
        if self.max_waiting and self.waiting >= self.max_waiting:
            self.rejections += 1
            raise QueueFull
        await self._wait()

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        since_s = time.monotonic()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it was handed the place at the moment when it left
            elif turn in self._queue:
                self._queue.remove(turn)
            raise
        finally:
            self.waited_s += time.monotonic() - since_s

    def _release(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # it is done when its owner has just left
                # The place is handed over without becoming free, so nobody can jump the queue.
                turn.set_result(None)
                return
        self.active -= 1
