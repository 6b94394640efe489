"""A proxy between the clients and the network, as companies have it.

with ForwardProxy(server.port) as proxy:
    monkeypatch.setenv("http_proxy", proxy.url)
    ...                                  # http://model.test:8000 is the server on loopback
    assert proxy.asked == ["GET http://model.test:8000/ping"]
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import urllib.parse
from collections.abc import Callable

from helpers.raw_server import Peer, RawServer, answer

Answer = bytes | Callable[[Peer], object]


class ForwardProxy(RawServer):
    """Every name is this machine, at the port that was asked for, or at `port`.

    `user`: "user:password" that it wants. `instead`: what it answers in the place of passing on.
    `via`: whether it says of each answer that it came through. `asked`: method and target of each
    request.
    """

    def __init__(
        self,
        port: int | None = None,
        user: str | None = None,
        instead: Answer | None = None,
        via: bool = True,
    ) -> None:
        self._port, self._user, self._instead, self._via = port, user, instead, via
        self.asked: list[str] = []
        super().__init__(self._serve_client)

    def _serve_client(self, peer: Peer) -> None:
        if callable(self._instead):
            self._instead(peer)
            return
        if (body := peer.request()) is None:
            return
        method, target, _ = peer.heads[-1].partition(b"\r\n")[0].decode("latin-1").split(" ")
        self.asked.append(f"{method} {target}")
        if self._user and not self._is_let_in(peer.heads[-1]):
            page, wants = b"<html>log in first</html>", 'Proxy-Authenticate: Basic realm="office"'
            peer.send(answer(page, wants, status="407 Proxy Authentication Required"))
        elif self._instead is not None:
            peer.send(self._instead)
        elif method == "CONNECT":
            self._open_tunnel(peer, int(target.rpartition(":")[2]))
        else:
            self._forward(peer, method, target, body)

    def _is_let_in(self, head: bytes) -> bool:
        expected = base64.b64encode((self._user or "").encode())
        return b"proxy-authorization: basic " + expected.lower() in head.lower()

    def _open_tunnel(self, peer: Peer, port: int) -> None:
        with socket.create_connection(("127.0.0.1", self._port or port)) as behind:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(behind, peer.sock), daemon=True)
            back.start()
            pump(peer.sock, behind)
            back.join(5)

    def _forward(self, peer: Peer, method: str, target: str, body: bytes) -> None:
        """In the origin form, without what was meant for the proxy (RFC 9112, section 3.2.1)."""
        parts = urllib.parse.urlsplit(target)
        assert parts.scheme == "http", target  # the absolute form
        lines = peer.heads[-1].decode("latin-1").split("\r\n")[1:]
        kept = [each for each in lines if not each.lower().startswith(("proxy-", "connection:"))]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
        with socket.create_connection(("127.0.0.1", self._port or parts.port or 80)) as behind:
            behind.sendall(head.encode("latin-1") + body)
            gone = threading.Thread(target=follow, args=(peer, behind), daemon=True)
            gone.start()
            is_first = self._via
            while data := behind.recv(1 << 16):
                if is_first:
                    line, end, rest = data.partition(b"\r\n")
                    data = line + end + b"Via: 1.1 office" + end + rest
                    is_first = False
                peer.sock.sendall(data)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def follow(peer: Peer, behind: socket.socket) -> None:
    """The server learns when the client goes away."""
    with contextlib.suppress(OSError):
        peer.sock.recv(1)
        behind.shutdown(socket.SHUT_RDWR)
