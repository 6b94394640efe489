"""Messages between this program and the processes that measure for it: objects over a socket.

Both ends are this very program, after a fork: what is read here was written by it, and nobody else
can write into a socket pair. A signal never leaves a message half sent; who receives in a thread
that signals interrupt postpones them.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import pickle
import socket
import struct
from typing import Any, NamedTuple

HEAD = struct.Struct("!Q")  # the length of a message


class Message(NamedTuple):
    kind: str
    content: Any = None


class Channel:
    """One end. One thread may send and another one receive."""

    def __init__(self, sock: socket.socket):
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, kind: str, content: Any = None) -> bool:
        """Whether the other end is still there."""
        data = pickle.dumps((kind, content), pickle.HIGHEST_PROTOCOL)
        INTERRUPTION.postpone()
        try:
            self._sock.sendall(HEAD.pack(len(data)) + data)
        except OSError:
            return False
        finally:
            INTERRUPTION.resume()
        return True

    def receive(self) -> Message | None:
        """The next message; waits for it. None: the other end is gone, for whatever reason."""
        try:
            head = self._read(HEAD.size)
            data = head and self._read(*HEAD.unpack(head))
        except OSError:
            return None
        return Message(*pickle.loads(data)) if data else None  # noqa: S301  (our own, see above)

    def _read(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            piece = self._sock.recv(min(size - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
        return bytes(data)

    def close(self) -> None:
        self._sock.close()
