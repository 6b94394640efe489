"""A closed loop whose next request depends on the last answer: conversations.

It is a `ClosedLoop` in every other way. What comes next is worked out between the end of an answer
and the send of the next request: that is no time of the request, and no lag of this program.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from livecheck.wire.connection import Failure
from livecheck.wire.exchange import ClosedLoop, Slot
from livecheck.wire.request import Reply, Request


class Following(Iterable[Request]):
    """Requests of which one may follow from the reply to another. `Wire.exchange` takes them as it
    takes any other requests, without a schedule."""

    def following(self, last: Reply | None) -> Request | None:
        """What to send in the place that this reply leaves, or that was not used yet (None). None:
        nothing more in this place. It is asked for one request after the other, in the order in
        which they are sent."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Request]:
        while (request := self.following(None)) is not None:
            yield request


@dataclass(eq=False)
class Conversations(ClosedLoop):
    """Each slot's next request follows from its last reply."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ended: Reply | None = None  # the one that has just ended
        self._is_over = False

    def _end(self, slot: Slot, failure: Failure | None = None) -> None:
        self._ended = slot.reply
        super()._end(slot, failure)
        self._ended = None

    def _next_request(self) -> tuple[int | None, Request] | None:
        assert isinstance(self.requests, Following)
        last, self._ended = self._ended, None
        request = None if self._is_over else self.requests.following(last)
        return None if request is None else (None, request)

    def _connect(self, slot: Slot) -> None:
        if slot.ready_ns is not None:
            slot.ready_ns = time.perf_counter_ns()
        super()._connect(slot)

    def _begin_no_more(self) -> None:
        self._is_over = True
