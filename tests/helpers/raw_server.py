"""A server that sends exactly the bytes that a test's script says, at the times it says.

def script(peer):                # runs in its own thread for every connection
    peer.request()               # wait for a request of the client
    peer.send(OK)                # send these bytes
    time.sleep(0.1)
    peer.reset()                 # close with RST; returning closes with FIN

with RawServer(script) as server: ...
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TO_THE_END = STREAM_HEAD + b"Connection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def answer(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


OK = answer()


def event(text: str = "hi") -> bytes:
    return f"data: {text}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Peer:
    """One accepted connection, seen from the server."""

    def __init__(self, sock: socket.socket, number: int):
        self.sock, self.number = sock, number
        self.accepted_ns = time.perf_counter_ns()
        self.gone_ns: int | None = None  # when the client's end of the connection was noticed
        self.heads: list[bytes] = []
        self.asked_ns: list[int] = []  # when the last byte of each request had arrived
        self.sent_ns: list[tuple[int, int]] = []  # before and after each send
        self._rest = bytearray()

    def request(self) -> bytes | None:
        """The body of the next request, when all of it has arrived; None: the client is gone."""
        if self._fill(lambda: b"\r\n\r\n" in self._rest) is None:
            return None
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        head = bytes(head)
        match = re.search(rb"(?i)content-length: (\d+)", head)
        length = int(match[1]) if match else 0
        if self._fill(lambda: len(self._rest) >= length) is None:
            return None
        body, self._rest = bytes(self._rest[:length]), self._rest[length:]
        self.heads.append(head)
        self.asked_ns.append(time.perf_counter_ns())
        return body

    def _fill(self, enough: Callable[[], bool]) -> bool | None:
        while not enough():
            try:
                data = self.sock.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self.gone_ns = time.perf_counter_ns()
                return None
            self._rest += data
        return True

    def send(self, *parts: bytes, gap_s: float = 0) -> None:
        for number, part in enumerate(parts):
            time.sleep(gap_s if number else 0)
            before = time.perf_counter_ns()
            self.sock.sendall(part)
            self.sent_ns.append((before, time.perf_counter_ns()))

    def wait_gone(self, timeout_s: float = 30) -> None:
        """Wait until the client closes the connection."""
        self.sock.settimeout(timeout_s)
        self._fill(lambda: False)

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class RawServer:
    """Listens on loopback; `peers` are the connections that it accepted, in order."""

    def __init__(
        self,
        script: Callable[[Peer], object],
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        backlog: int = 1024,
    ):
        self._script, self._tls = script, tls
        self.peers: list[Peer] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=backlog)
        self.port = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)

    @property
    def requests(self) -> int:
        return sum(len(peer.heads) for peer in self.peers)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.peers.append(Peer(sock, len(self.peers)))
            threading.Thread(target=self._serve, args=(self.peers[-1],), daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        with contextlib.suppress(OSError):  # the client may close the connection at any time
            if self._tls:
                peer.start_tls(self._tls)
            self._script(peer)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)
        peer.sock.close()


def keep_answering(peer: Peer, reply: bytes = OK) -> None:
    """A script that answers every request at once."""
    while peer.request() is not None:
        peer.send(reply)
