"""Tells which sockets can be read or written: epoll itself where the system has it.

The standard library's `selectors` makes objects for each event, which takes as long as to read a
socket. Here an event is a pair of numbers.
"""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
WRITE_ONLY: int = getattr(select, "EPOLLOUT", WRITE)

T = TypeVar("T")


class Readiness(Generic[T]):
    """Sockets, and something (T) that belongs to each. `data`: the same by file descriptor."""

    def __init__(self) -> None:
        self.data: dict[int, T] = {}
        self.sockets: dict[int, socket.socket] = {}
        self._selector = _Epoll() if hasattr(select, "epoll") else _Other()
        self.wait = self._selector.wait

    def register(self, sock: socket.socket, events: int, data: T) -> None:
        self._selector.register(sock, events)
        self.data[sock.fileno()], self.sockets[sock.fileno()] = data, sock

    def modify(self, sock: socket.socket, events: int) -> None:
        self._selector.modify(sock, events)

    def unregister(self, sock: socket.socket) -> None:
        """KeyError when it is not registered."""
        del self.data[sock.fileno()], self.sockets[sock.fileno()]
        self._selector.unregister(sock)

    def fileno(self) -> int:
        """Its own descriptor, which can be read when one of the sockets is ready; -1: none."""
        return self._selector.fileno()

    def close(self) -> None:
        self.data.clear()
        self.sockets.clear()
        self._selector.close()


class _Epoll:
    """`wait`: (descriptor, how) of the sockets that are ready; waits for the first one, at most so
    many seconds. `how` is WRITE_ONLY where there is nothing to read; an error can be read: that
    tells what it is."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.wait: Callable[[float], list[tuple[int, int]]] = self._epoll.poll

    def register(self, sock: socket.socket, events: int) -> None:
        self._epoll.register(sock, _mask(events))

    def modify(self, sock: socket.socket, events: int) -> None:
        self._epoll.modify(sock, _mask(events))

    def unregister(self, sock: socket.socket) -> None:
        self._epoll.unregister(sock)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()


def _mask(events: int) -> int:
    return (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)


class _Other:
    """The same by `selectors`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def wait(self, timeout_s: float) -> list[tuple[int, int]]:
        ready = self._selector.select(timeout_s)
        return [(key.fd, READ if mask & READ else WRITE_ONLY) for key, mask in ready]

    def register(self, sock: socket.socket, events: int) -> None:
        self._selector.register(sock, events)

    def modify(self, sock: socket.socket, events: int) -> None:
        self._selector.modify(sock, events)

    def unregister(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)

    def fileno(self) -> int:
        return int(getattr(self._selector, "fileno", lambda: -1)())

    def close(self) -> None:
        self._selector.close()
