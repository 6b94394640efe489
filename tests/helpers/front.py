"""A proxy in front of a deployment that has its API at another place, as operators meet it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable

from helpers.raw_server import Peer, RawServer, answer

Place = Callable[[str], str | None]  # the path behind the proxy for one before it; None: a 404

NOT_FOUND = answer(b"404 page not found", "Connection: close", status="404 Not Found")


def api_at(base: str, own: bool = True) -> Place:
    """The API is below this path, which takes the place of /v1; `own`: what is not below it is the
    deployment's own, as /health is."""

    def place(path: str) -> str | None:
        if path.startswith(f"{base}/") and not (base == "" and is_own(path)):
            return "/v1" + path.removeprefix(base)
        return path if own and not path.startswith("/v1/") else None

    return place


def is_own(path: str) -> bool:
    """Whether it is an endpoint of the deployment itself, when the API has no prefix."""
    return path.startswith(("/ping", "/health", "/metrics", "/admin", "/.well-known", "/v1/"))


class Front(RawServer):
    """Passes each request on to the deployment at `url`, where `place` says that it is there.

    `asked`: the request lines that came. One request for each connection.
    """

    def __init__(self, url: str, place: Place) -> None:
        self._behind, self._place = urllib.parse.urlsplit(url), place
        self.asked: list[str] = []
        super().__init__(self._pass_on)

    def _pass_on(self, peer: Peer) -> None:
        if (body := peer.request()) is None:
            return
        line, _, rest = peer.heads[-1].partition(b"\r\n")
        method, path, version = line.decode("latin-1").split(" ")
        self.asked.append(f"{method} {path}")
        behind = self._place(path)
        if behind is None:
            peer.send(NOT_FOUND)
            return
        rest = re.sub(rb"(?i)connection: [^\r]*\r\n", b"", rest + b"\r\n")
        head = f"{method} {behind} {version}\r\nConnection: close\r\n".encode("latin-1") + rest
        address = (self._behind.hostname, self._behind.port)
        with socket.create_connection(address) as onward:
            onward.sendall(head + b"\r\n" + body)
            gone = threading.Thread(target=self._watch, args=(peer, onward), daemon=True)
            gone.start()
            while data := onward.recv(1 << 16):
                peer.sock.sendall(data)

    def _watch(self, peer: Peer, onward: socket.socket) -> None:
        """The deployment learns when the client goes away."""
        with contextlib.suppress(OSError):
            peer.sock.recv(1)
            onward.shutdown(socket.SHUT_RDWR)
