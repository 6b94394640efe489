"""An exchange whose requests are handed in one by one while it runs, by users who wait for them.

`ClosedLoop` and `OpenLoop` know from the beginning what they send. Here somebody else decides, such
as a load generator whose users come and go: each has at most one request in flight, and asks for
the next one when it wants to. All of it happens in one thread: `give` and `withdraw` may be called
while `run` waits for something to read, and from `on_reply`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from livecheck.wire.exchange import Exchange, Slot
from livecheck.wire.request import Request


@dataclass(eq=False)
class HandedIn(Exchange):
    """Runs until `end` is called. A reply has the index that `give` returned for its request."""

    _given: deque[Request] = field(default_factory=deque)
    _is_over: bool = False

    def run(self, concurrency: int = 0) -> None:
        while not self._is_over:
            self._handle_events()

    def end(self) -> None:
        """Let `run` return. What is in flight is left to `abandon`."""
        self._is_over = True

    def give(self, request: Request, ready_ns: int | None = None) -> int:
        """Send a request over a kept connection or a new one. `ready_ns`: since when it could have
        been sent, from which the lag of the send counts."""
        index = len(self.replies)
        slot = Slot()
        slot.ready_ns = ready_ns
        self.slots.add(slot)
        self._given.append(request)
        self._begin(slot)
        return index

    def withdraw(self, index: int) -> None:
        """Interrupt a request that is in flight: nobody waits for its answer any more."""
        for slot in self.slots:
            if slot.reply and slot.reply.index == index:
                reply = self._interrupt(slot)
                self.slots.discard(slot)
                if self.on_reply and reply:
                    self.on_reply(reply)
                return

    def _on_free(self, slot: Slot) -> None:
        super()._on_free(slot)  # there is nothing to begin: its connection is kept
        self._tell_all()  # at once: a user waits to hear of it

    def _next_request(self) -> tuple[int | None, Request] | None:
        return (None, self._given.popleft()) if self._given else None

    def _begin_no_more(self) -> None:
        self._given.clear()
