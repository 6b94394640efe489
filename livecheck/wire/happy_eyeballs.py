"""Connects to a host that has several addresses: the first one to answer wins (RFC 8305).

The attempts begin one after the other, each as soon as the one before has failed or has not
answered for a quarter of a second. So an address that is refused costs nothing, and one that does
not answer costs little.
"""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

ATTEMPT_DELAY_S = 0.25  # until the next attempt begins (RFC 8305, section 8)
UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)

# poll() needs no descriptor of its own: many threads connect at once. Windows does not have it.
Selector: Any = getattr(selectors, "PollSelector", selectors.SelectSelector)


@dataclass(frozen=True)
class Endpoint:
    """One address of a host, with the port, as getaddrinfo gives it."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def address(self) -> str:
        return str(self.sockaddr[0])

    @property
    def shown(self) -> str:
        return f"[{self.address}]" if ":" in self.address else self.address


@dataclass(eq=False)
class Attempt:
    """An attempt to connect to one endpoint that is under way; its socket does not block."""

    endpoint: Endpoint
    sock: socket.socket
    started_ns: int

    @property
    def spent_s(self) -> float:
        """How long it has been going on."""
        return (time.perf_counter_ns() - self.started_ns) / 1e9

    def error(self) -> OSError | None:
        """Why it has failed, now that something has happened; None: it is connected."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(code, os.strerror(code)) if code else None


@dataclass(frozen=True)
class Failed:
    """An attempt that has failed, and after how long."""

    endpoint: Endpoint
    error: OSError
    spent_s: float


def begin(endpoint: Endpoint) -> Attempt:
    """Begin to connect. Raises OSError when that fails at once."""
    started_ns = time.perf_counter_ns()
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(endpoint.sockaddr)
        if code and code not in UNDER_WAY:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return Attempt(endpoint, sock, started_ns)


@dataclass
class Race:
    """Attempts to connect to the addresses of one host, and what became of them.

    winner: the one that is connected; None while there is none. pending: those that have not
    answered yet. failed: those that have an error.
    """

    winner: Attempt | None = None
    pending: list[Attempt] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def run(self, endpoints: Iterable[Endpoint], deadline_s: float) -> None:
        """Until one is connected, or all have failed, or the time is over (`perf_counter`)."""
        waiting = deque(endpoints)
        next_s = 0.0  # when the next attempt begins, although others are pending
        with Selector() as selector:
            while (waiting or self.pending) and self.winner is None:
                now_s = time.perf_counter()
                # What has happened counts before the time that has passed: this program may have
                # been kept from running.
                if now_s >= deadline_s:
                    self._settle(selector, 0.0)
                    return
                until_s = min(deadline_s, next_s) if waiting else deadline_s
                wait_s = max(0.0, until_s - now_s) if self.pending else 0.0
                self._settle(selector, wait_s)
                is_due = not self.pending or time.perf_counter() >= next_s
                if waiting and is_due and self.winner is None:
                    self._begin(waiting.popleft(), selector)
                    next_s = time.perf_counter() + ATTEMPT_DELAY_S

    def _begin(self, endpoint: Endpoint, selector: Any) -> None:
        try:
            attempt = begin(endpoint)
        except OSError as error:
            self.failed.append(Failed(endpoint, error, 0.0))
            return
        self.pending.append(attempt)
        selector.register(attempt.sock, selectors.EVENT_WRITE, attempt)

    def _settle(self, selector: Any, wait_s: float) -> None:
        """Wait for something to happen to the attempts under way, and note what it was."""
        for key, _ in selector.select(wait_s) if self.pending else ():
            attempt = key.data
            selector.unregister(attempt.sock)
            self.pending.remove(attempt)
            if error := attempt.error():
                self.failed.append(Failed(attempt.endpoint, error, attempt.spent_s))
                attempt.sock.close()
            elif self.winner is None:
                self.winner = attempt
            else:
                attempt.sock.close()

    def close(self) -> None:
        """Close whatever is open."""
        for attempt in [*self.pending, *([self.winner] if self.winner else [])]:
            attempt.sock.close()


def race(endpoints: Sequence[Endpoint], deadline_s: float) -> Race:
    """Connect to the first of these that answers; they are tried in this order."""
    found = Race()
    try:
        found.run(endpoints, deadline_s)
    except BaseException:
        found.close()
        raise
    return found


def interleaved(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The families in turn, beginning with that of the first (RFC 8305, section 4): a network on
    which one family does not work costs one attempt, however many addresses that family has."""
    families: dict[int, list[Endpoint]] = {}
    for each in endpoints:
        families.setdefault(each.family, []).append(each)
    turns = itertools.zip_longest(*families.values())
    return [each for turn in turns for each in turn if each]
