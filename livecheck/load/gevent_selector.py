"""The wire's epoll in a process whose sockets belong to gevent, as those of Locust do.

gevent replaces what blocks in the standard library, so that a thread has many greenlets, and takes
`select.epoll` away. Its own selector has a watcher for each socket and wakes a greenlet for each.
Here the kernel's epoll watches all sockets of the wire, as without gevent, and gevent watches
nothing but epoll's own descriptor, which can be read when anything can. So what is done for each
event of a stream is the same as in `benchmark.py`, and each read has the kernel's receive time.

This module imports gevent: nothing but Locust's side imports it.
"""

from __future__ import annotations

import select
import time

import gevent
import gevent.monkey
from gevent import get_hub

READABLE = 1  # libev's EV_READ
# The reader gives way to other greenlets after so long, even when there is always more to do.
LONGEST_TURN_NS = 2_000_000


class EpollUnderGevent:
    """As `select.epoll`, as far as the wire needs it; while it waits, other greenlets run."""

    def __init__(self) -> None:
        self._epoll = gevent.monkey.get_original("select", "epoll")()
        self.register, self.modify = self._epoll.register, self._epoll.modify
        self.unregister, self.fileno = self._epoll.unregister, self._epoll.fileno
        self._watcher = get_hub().loop.io(self._epoll.fileno(), READABLE)
        self._turn_began_ns = time.perf_counter_ns()

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        ready: list[tuple[int, int]] = self._epoll.poll(0)
        if ready or timeout_s <= 0:
            if time.perf_counter_ns() - self._turn_began_ns > LONGEST_TURN_NS:
                gevent.sleep(0)
                self._turn_began_ns = time.perf_counter_ns()
            return ready
        with gevent.Timeout(timeout_s, False):
            get_hub().wait(self._watcher)
        self._turn_began_ns = time.perf_counter_ns()
        ready = self._epoll.poll(0)
        return ready

    def close(self) -> None:
        self._watcher.close()
        self._epoll.close()


def install() -> None:
    """Put `select.epoll` back, in this form. gevent must have replaced the sockets before."""
    setattr(select, "epoll", EpollUnderGevent)  # noqa: B010  (it is a class of another kind)
