"""The wire's selector in a process whose sockets belong to gevent, as those of Locust do.

gevent replaces the blocking parts of the standard library, `selectors.DefaultSelector` among them,
so that a thread has many greenlets. Its own selector has a watcher for each socket and wakes a
greenlet for each; here the kernel's epoll watches all sockets of the wire, as without gevent, and
gevent watches nothing but epoll's own descriptor, which is readable when anything can be read. So
what is done for each event of a stream is the same as in `benchmark.py`, and each read has the
kernel's receive time.

This module imports gevent: nothing but Locust's side imports it.
"""

from __future__ import annotations

import selectors
import time
from typing import Any

import gevent
import gevent.monkey
from gevent import get_hub

Epoll: Any = gevent.monkey.get_original("selectors", "EpollSelector")  # gevent has removed it
READABLE = 1  # libev's EV_READ
# The reader gives way to other greenlets after so long, even when there is always more to do.
LONGEST_TURN_NS = 2_000_000


class EpollUnderGevent(Epoll):
    """As `selectors.EpollSelector`; while it waits, other greenlets run."""

    def __init__(self) -> None:
        super().__init__()
        self._watcher = get_hub().loop.io(self.fileno(), READABLE)
        self._turn_began_ns = time.perf_counter_ns()

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            if time.perf_counter_ns() - self._turn_began_ns > LONGEST_TURN_NS:
                gevent.sleep(0)
                self._turn_began_ns = time.perf_counter_ns()
            return ready
        with gevent.Timeout(timeout, False):
            get_hub().wait(self._watcher)
        self._turn_began_ns = time.perf_counter_ns()
        return super().select(0)

    def close(self) -> None:
        self._watcher.close()
        super().close()


def install() -> None:
    """Let every selector that is made from now on be such a one. Before it is called, gevent must
    have replaced the sockets."""
    setattr(selectors, "DefaultSelector", EpollUnderGevent)  # noqa: B010  (a type of its own)
