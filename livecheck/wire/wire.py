"""The wire: sends requests, and records when every byte of the answers arrived.

A request leaves in one send, and `t0_ns` is that moment; each read takes the kernel's own receive
time where the system gives one, so neither the scheduler nor this program's own work is in the
figures. What the bytes mean is worked out after the requests have ended. The modules above this
package do not deal with sockets.

All times are nanoseconds of `time.perf_counter_ns()`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING

from livecheck.wire.clock import KERNEL_CLOCK, USER_CLOCK, Clock
from livecheck.wire.connection import Failure, Handshake, Pool, Target
from livecheck.wire.conversation import Conversations, Following
from livecheck.wire.dialect import Dialect
from livecheck.wire.exchange import AtStart, ClosedLoop, OnReply, OpenLoop, SlotPool, SpareWork
from livecheck.wire.request import MAX_BYTES, MAX_STREAM_BYTES, Reply, Request, most_bytes

if TYPE_CHECKING:
    from livecheck.wire.handed_in import HandedIn

__all__ = [
    "KERNEL_CLOCK",
    "MAX_BYTES",
    "MAX_STREAM_BYTES",
    "USER_CLOCK",
    "Failure",
    "Handshake",
    "Reply",
    "Request",
    "Target",
    "Wire",
    "most_bytes",
    "raise_descriptor_limit",
]

OTHER_DESCRIPTORS = 64  # for files, the selector and the like, beside one for each stream


def raise_descriptor_limit(streams: int) -> None:
    """Let this process hold `streams` sockets. Raises OSError, with the reason, if it cannot."""
    try:
        import resource
    except ImportError:  # Windows does not have such a limit
        return
    needed = streams + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OSError(
            errno.EMFILE,
            f"{streams} streams need {needed} file descriptors, the hard limit is {hard}: "
            "raise it (ulimit -Hn) or use less concurrency",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Wire:
    """Sends requests to one target; keeps open the connections that the server keeps open.

    `replies` holds the replies of the last `exchange`, also when it was interrupted.
    `timeout_s` is the time that one request may take, from connecting to the last byte. `dialect`:
    how the model's parameters are called. A request that is refused because of their names is sent
    once more, and has the one reply that came then. `at_start`, where it is set, is called by each
    exchange when all is ready for its first request (a closed loop has opened its connections): it
    waits, and returns the moment of the start.
    """

    def __init__(
        self,
        target: Target,
        timeout_s: float,
        kernel_stamps: bool = True,
        dialect: Dialect | None = None,
    ):
        self.target, self.timeout_s, self.dialect = target, timeout_s, dialect or Dialect()
        self.replies: list[Reply] = []
        self.at_start: AtStart | None = None
        self._pool: SlotPool = Pool(target, Clock(kernel_stamps))

    @property
    def clock(self) -> str:
        """KERNEL_CLOCK or USER_CLOCK: where the arrival times of the reads so far come from."""
        return self._pool.clock.name

    def __enter__(self) -> Wire:
        return self

    def close_idle(self) -> None:
        """Close the connections that are kept open for the next exchange."""
        while self._pool.idle:
            self._pool.idle.pop().close()

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def exchange(
        self,
        requests: Iterable[Request],
        concurrency: int = 1,
        on_reply: Callable[[Reply], bool | None] | None = None,
        keep: bool = True,
        due_s: Iterable[float] | None = None,
        in_spare_time: SpareWork | None = None,
    ) -> list[Reply]:
        """Closed loop: `concurrency` requests in flight, the next one as soon as one has ended.
        The connections are opened before the first request is sent. With a concurrency of
        len(requests) it is a burst: all requests are sent at once.

        Open loop, with `due_s`: each request is due that many seconds (ascending) after the start,
        whatever the server does. It uses a kept connection or opens one then. When `concurrency`
        requests are in flight it waits until one of them has ended; it was late by
        `t0_ns - due_ns`.

        Requests and times are taken one by one, as they are needed, so they may be endless; in a
        closed loop one may follow from the reply to another (`Following`).
        `in_spare_time` is called again and again, and should do no more than a short piece of work.
        `on_reply` sees each reply as it ends; once it returns True no other request is begun.
        `keep=False`: a new connection for each request. Every request that was begun gets a Reply,
        in the order in which they were begun. Raises OSError when the system does not allow enough
        file descriptors.
        """
        if isinstance(requests, Sized):
            concurrency = min(concurrency, len(requests))
        raise_descriptor_limit(concurrency)
        common = (self._pool, self.timeout_s, on_reply, keep, requests, self.dialect, in_spare_time)
        closed = Conversations if isinstance(requests, Following) else ClosedLoop
        exchange = closed(*common) if due_s is None else OpenLoop(*common, due_s=due_s)
        exchange.at_start = self.at_start
        self.replies = exchange.replies
        try:
            exchange.run(concurrency)
        finally:
            exchange.abandon()
        return self.replies

    def handed_in(self, on_reply: OnReply, in_spare_time: SpareWork) -> HandedIn:
        """An exchange that is given its requests one by one; see there. No other one may run
        meanwhile."""
        common = (self._pool, self.timeout_s, on_reply, True, (), self.dialect, in_spare_time)
        from livecheck.wire.handed_in import HandedIn

        return HandedIn(*common)
